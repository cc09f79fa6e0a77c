//! Several namespaces watched as if they were one: the events of each one's watch, put together into the one sequence that
//! a store takes.
//!
//! Here belongs which event follows from which. What an object says never matters here.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;

use futures::stream::{BoxStream, SelectAll, StreamExt as _, select_all, unfold};
use kube::runtime::reflector::Store;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

/// What can be watched here.
pub trait Watched:
    Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Watched for K where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// A watch's events.
pub type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

/// Watches these namespaces, or all of them if none is named. `store` is what the caller fills from the stream, each event
/// before it asks for the next.
pub fn watch<K: Watched>(client: &Client, namespaces: &BTreeSet<String>, store: Store<K>) -> Events<K> {
    let config = watcher::Config::default();
    let one = |namespace: &String| {
        watcher(Api::namespaced(client.clone(), namespace), config.clone()).default_backoff().boxed()
    };
    match namespaces.first() {
        None => watcher(Api::all(client.clone()), config).default_backoff().boxed(),
        Some(only) if namespaces.len() == 1 => one(only),
        Some(_) => together(namespaces.iter().map(|name| (name.clone(), one(name))).collect(), store),
    }
}

/// Puts the watches of several namespaces together.
fn together<K: Watched>(watches: Vec<(String, Events<K>)>, store: Store<K>) -> Events<K> {
    let merge = Merge::new(watches.iter().map(|(name, _)| name.clone()).collect());
    let tagged = watches
        .into_iter()
        .enumerate()
        .map(|(source, (_, events))| -> Tagged<K> { Box::pin(events.map(move |event| (source, event))) });
    let watches: SelectAll<Tagged<K>> = select_all(tagged);
    let state = (watches, merge, VecDeque::from([Event::Init]), store);
    unfold(state, async |(mut watches, mut merge, mut next, store)| {
        loop {
            if let Some(event) = next.pop_front() {
                return Some((Ok(event), (watches, merge, next, store)));
            }
            // The store has taken in whatever went before.
            if let Some(listed) = merge.listed.pop_front() {
                next.extend(merge.vanished(&listed, &store).map(Event::Delete));
                continue;
            }
            match watches.next().await? {
                (source, Ok(event)) => next.extend(merge.take(source, event)),
                (_, Err(error)) => return Some((Err(error), (watches, merge, next, store))),
            }
        }
    })
    .boxed()
}

type Tagged<K> = Pin<Box<dyn futures::Stream<Item = (usize, watcher::Result<Event<K>>)> + Send>>;

/// How far each namespace's watch is. Until all have brought their first list, all that comes is part of one first list.
struct Merge {
    sources: Vec<Source>,
    /// Every first list is here.
    whole: bool,
    /// Namespaces, by number, whose list has just ended: what the store has besides is gone.
    listed: VecDeque<usize>,
}

struct Source {
    namespace: String,
    /// The list is here, and changes follow.
    done: bool,
    /// The names that there are, as far as this watch has told: kept until the list and the store are compared.
    names: BTreeSet<String>,
}

impl Merge {
    fn new(namespaces: Vec<String>) -> Self {
        let source = |namespace| Source { namespace, done: false, names: BTreeSet::new() };
        Self { sources: namespaces.into_iter().map(source).collect(), whole: false, listed: VecDeque::new() }
    }

    /// The event that follows from this one of that source, if one does.
    fn take<K: Watched>(&mut self, source: usize, event: Event<K>) -> Option<Event<K>> {
        let whole = self.whole;
        let here = self.sources.get_mut(source)?;
        match event {
            Event::Init => {
                here.done = false;
                here.names.clear();
                None
            }
            Event::InitApply(object) => {
                here.names.insert(object.name_any());
                Some(if whole { Event::Apply(object) } else { Event::InitApply(object) })
            }
            Event::InitDone if whole => {
                here.done = true;
                self.listed.push_back(source);
                None
            }
            Event::InitDone => {
                here.done = true;
                self.whole = self.sources.iter().all(|source| source.done);
                // What a list that was begun anew, or a change after a list, took away is in the store's first list still.
                self.listed.extend((0..self.sources.len()).filter(|_| self.whole));
                self.whole.then_some(Event::InitDone)
            }
            Event::Apply(object) if whole => Some(Event::Apply(object)),
            Event::Delete(object) if whole => Some(Event::Delete(object)),
            Event::Apply(object) => {
                here.names.insert(object.name_any());
                Some(Event::InitApply(object))
            }
            Event::Delete(object) => {
                here.names.remove(&object.name_any());
                None
            }
        }
    }

    /// What the store has of a namespace that its list has not.
    fn vanished<K: Watched>(&mut self, source: &usize, store: &Store<K>) -> impl Iterator<Item = K> + use<K> {
        let listed = self.sources.get_mut(*source).map(|s| (s.namespace.clone(), std::mem::take(&mut s.names)));
        let (namespace, names) = listed.unwrap_or_default();
        let here =
            move |object: &K| object.namespace().is_some_and(|n| n == namespace) && !names.contains(&object.name_any());
        store.state().into_iter().map(|object| (*object).clone()).filter(here)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use futures::TryStreamExt as _;
    use futures::channel::mpsc;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::reflector;
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 3] = ["a", "b", "c"];

    fn object(namespace: usize, name: usize, version: u32) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some(NAMES[namespace].to_owned());
        object.metadata.name = Some(NAMES[name].to_owned());
        object.metadata.resource_version = Some(version.to_string());
        object
    }

    /// What one API server tells of one namespace.
    #[derive(Debug, Clone)]
    enum Happens {
        Applied(usize),
        Deleted(usize),
        /// The watch is lost and begins anew, with a list that is cut off after so many objects, or whole.
        Relisted(Option<usize>),
    }

    fn happens() -> impl Strategy<Value = (usize, Happens)> {
        let one = prop_oneof![
            (0..3usize).prop_map(Happens::Applied),
            (0..3usize).prop_map(Happens::Deleted),
            prop::option::of(0..3usize).prop_map(Happens::Relisted),
        ];
        (0..3usize, one)
    }

    /// Versions, by namespace and name.
    type There = BTreeMap<(usize, usize), u32>;

    /// The events of the watches, and what there is in the end.
    fn played(story: &[(usize, Happens)]) -> (Vec<(usize, Event<ConfigMap>)>, There) {
        let (mut events, mut there, mut version) = (Vec::new(), BTreeMap::new(), 0);
        let mut watching = [false; 3];
        let list = |events: &mut Vec<_>, there: &There, source: usize, cut: Option<usize>| {
            let all = there.iter().filter(|((namespace, _), _)| *namespace == source);
            events.push((source, Event::Init));
            let listed = all.take(cut.unwrap_or(usize::MAX));
            events.extend(listed.map(|((_, name), v)| (source, Event::InitApply(object(source, *name, *v)))));
            if cut.is_none() {
                events.push((source, Event::InitDone));
            }
            cut.is_none()
        };
        for (source, what) in story {
            version += 1;
            match what {
                Happens::Applied(name) => {
                    there.insert((*source, *name), version);
                    if watching[*source] {
                        events.push((*source, Event::Apply(object(*source, *name, version))));
                    }
                }
                Happens::Deleted(name) => {
                    let gone = there.remove(&(*source, *name));
                    if let Some(version) = gone.filter(|_| watching[*source]) {
                        events.push((*source, Event::Delete(object(*source, *name, version))));
                    }
                }
                Happens::Relisted(cut) => watching[*source] = list(&mut events, &there, *source, *cut),
            }
        }
        for (source, _) in watching.into_iter().enumerate().filter(|(_, watching)| !watching) {
            list(&mut events, &there, source, None);
        }
        (events, there)
    }

    fn merged(events: Vec<(usize, Event<ConfigMap>)>) -> (Vec<Event<ConfigMap>>, Store<ConfigMap>) {
        let (store, writer) = reflector::store();
        // One channel each would lose the order between them; so each source is a stream over its own, fed step by step.
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::unbounded()).unzip();
        let watches =
            receivers.into_iter().zip(NAMES).map(|(events, name)| (name.to_owned(), events.boxed())).collect();
        let mut all = together(watches, store.clone()).reflect(writer).boxed();
        let mut seen = Vec::new();
        let mut drain = |seen: &mut Vec<_>| {
            while let Some(event) = all.try_next().now_or_never_ok() {
                seen.push(event);
            }
        };
        for (source, event) in events {
            senders[source].unbounded_send(Ok(event)).unwrap();
            drain(&mut seen);
        }
        (seen, store)
    }

    trait NowOrNever {
        fn now_or_never_ok(self) -> Option<Event<ConfigMap>>;
    }

    impl<F: Future<Output = watcher::Result<Option<Event<ConfigMap>>>>> NowOrNever for F {
        fn now_or_never_ok(self) -> Option<Event<ConfigMap>> {
            futures::FutureExt::now_or_never(self).and_then(|event| event.unwrap())
        }
    }

    fn held(store: &Store<ConfigMap>) -> There {
        let place = |name: &str| NAMES.iter().position(|n| *n == name).unwrap();
        let key = |o: &ConfigMap| (place(&o.namespace().unwrap()), place(&o.name_any()));
        store.state().iter().map(|o| (key(o), o.resource_version().unwrap().parse().unwrap())).collect()
    }

    proptest! {
        #[test]
        fn the_store_has_in_the_end_what_there_is_and_is_ready_once_only(story in prop::collection::vec(happens(), 0..40)) {
            let (events, there) = played(&story);
            let (seen, store) = merged(events);
            prop_assert_eq!(held(&store), there);
            let count = |wanted: fn(&Event<ConfigMap>) -> bool| seen.iter().filter(|event| wanted(event)).count();
            prop_assert_eq!(count(|event| matches!(event, Event::Init)), 1);
            prop_assert_eq!(count(|event| matches!(event, Event::InitDone)), 1);
            let done = seen.iter().position(|event| matches!(event, Event::InitDone)).unwrap();
            prop_assert!(seen[done..].iter().all(|event| !matches!(event, Event::InitApply(_))));
            prop_assert!(seen[..done].iter().all(|event| matches!(event, Event::Init | Event::InitApply(_))));
        }
    }

    #[test]
    fn nothing_is_whole_before_every_namespace_was_read() {
        let all = [0, 1].into_iter().flat_map(|source| [(source, Event::Init), (source, Event::InitDone)]);
        let (seen, _) = merged(all.clone().collect());
        assert!(matches!(seen.as_slice(), [Event::Init]), "{seen:?}");
        let (seen, _) = merged(all.chain([(2, Event::Init), (2, Event::InitDone)]).collect());
        assert!(matches!(seen.as_slice(), [Event::Init, Event::InitDone]), "{seen:?}");
    }

    #[test]
    fn what_a_new_list_lacks_is_deleted_and_only_in_its_own_namespace() {
        let listed = |source| {
            [(source, Event::Init), (source, Event::InitApply(object(source, 0, 1))), (source, Event::InitDone)]
        };
        let again = [(1, Event::Init), (1, Event::InitDone)];
        let (seen, store) = merged((0..3).flat_map(listed).chain(again).collect());
        let gone = seen.iter().filter_map(|event| if let Event::Delete(o) = event { o.namespace() } else { None });
        assert_eq!(gone.collect::<Vec<_>>(), ["b"]);
        assert_eq!(held(&store).len(), 2);
    }
}
