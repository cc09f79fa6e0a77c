//! The object storage beside the simulated cloud: PostObject over HTTP, for files of device names.
//!
//! Here belongs reading the form that browsers and clients post. What is accepted is decided in [`super::model`].

use axum::extract::{Multipart, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::model::Form;
use super::server::Server;

/// What a form may weigh: a file above the storage's own limit must still be read to be refused.
pub(super) const FORM_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Takes one form.
pub(super) async fn post_object(State(server): State<Server>, multipart: Multipart) -> Response {
    let form = match read(multipart).await {
        Ok(form) => form,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    let stored = server.with(|cloud, clocks| cloud.post_object(form, clocks));
    let status = StatusCode::from_u16(stored.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/xml")], stored.body).into_response()
}

/// The fields before the file, and the file: what follows it is ignored, as the storage does.
async fn read(mut multipart: Multipart) -> Result<Form, String> {
    let mut form = Form::default();
    while let Some(field) = multipart.next_field().await.map_err(|e| e.body_text())? {
        let name = field.name().unwrap_or_default().to_owned();
        let bytes = field.bytes().await.map_err(|e| e.body_text())?;
        if name == "file" {
            form.file = Some(bytes.to_vec());
            break;
        }
        form.fields.insert(name, String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(form)
}
