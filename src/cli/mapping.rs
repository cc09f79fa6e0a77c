//! The page `docs/api-mapping.md`: which field becomes which parameter, out of the tables that do it. What the tables say
//! never comes in here.

use std::fmt::Write as _;

use crate::api::job_view::ANSWER;
use crate::rollout::call::ROWS;

/// The page.
pub fn api_mapping() -> String {
    let mut page = String::from(
        "# From a manifest to the cloud's API, and back\n\n\
         Made from the code by `FOTA_WRITE_DOCS=1 cargo test page_of_parameters`: do not edit. `delivery` is `spec.delivery`, or that of a step, which wins \
         field by field. Sections are those of the vendor's documents as collected for this project.\n\n\
         ## Parameters of the create calls\n\n\
         | parameter | operations | field | range, and what is sent without the field | section |\n|---|---|---|---|---|\n",
    );
    for row in ROWS {
        let operations: Vec<_> = row.operations.iter().map(|o| o.name()).collect();
        let (parameter, operations) = (row.parameter, operations.join(", "));
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {parameter} | {operations} | {} | {} | {} |", row.field, row.range, row.section);
    }
    page.push_str(
        "\n## What QueryOTAJob answers\n\nShown per job in the status. `…` is `status.stages[].jobs[]`; beside it stand \
         the create's own `….utcCreate` and `….requestId`.\n\n| answer | status |\n|---|---|\n",
    );
    for (answer, status) in ANSWER {
        let _ = writeln!(page, "| {answer} | {status} |");
    }
    page
}
