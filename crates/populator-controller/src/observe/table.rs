//! Objects of one kind as values, kept up to date by a watch.

use std::{collections::HashMap, hash::Hash};

use kube::runtime::watcher::Event;

use crate::namespaces::Scope;

/// The values that a watch shows, by key. Objects of no interest take no memory, and neither does the room
/// that a map keeps for more of them: it would be as large as the values.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    rows: HashMap<K, Box<V>>,
    /// The rows of lists that are not complete yet, by namespace (`None`: of all); each replaces the rows of its
    /// scope when it is.
    incoming: HashMap<Option<String>, HashMap<K, Box<V>>>,
}

/// The key of an object in a namespace or outside of all.
pub(super) trait Key: Hash + Eq + Clone {
    /// Its namespace, if it has one.
    fn namespace(&self) -> Option<&str>;
}

/// A name outside of all namespaces.
impl Key for String {
    fn namespace(&self) -> Option<&str> {
        None
    }
}

/// A row that has changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change<V> {
    /// The value before; `None` for a new row.
    pub before: Option<V>,
    /// The value after; `None` for a row that is gone.
    pub after: Option<V>,
}

/// An object as a row of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row<K, V> {
    /// Key of the row, which does not change during the life of the object.
    pub key: K,
    /// Value of the row; `None` for an object that is of no interest (any more).
    pub value: Option<V>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            rows: HashMap::new(),
            incoming: HashMap::new(),
        }
    }
}

impl<K: Key, V: Clone + PartialEq> Table<K, V> {
    /// Applies an event of the watch of a scope, and returns what has changed. `read` converts an object into
    /// a row; an object without a row is ignored.
    pub(super) fn take<O>(
        &mut self,
        scope: &Scope,
        event: Event<O>,
        read: impl Fn(&O) -> Option<Row<K, V>>,
    ) -> Vec<Change<V>> {
        match event {
            Event::Init => {
                self.incoming.remove(&list_of(scope));
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(Row {
                    key,
                    value: Some(value),
                }) = read(&object)
                {
                    let list = self.incoming.entry(list_of(scope)).or_default();
                    list.insert(key, Box::new(value));
                }
                Vec::new()
            }
            Event::InitDone => self.replace(scope),
            Event::Apply(object) => read(&object)
                .and_then(|row| self.set(row.key, row.value))
                .into_iter()
                .collect(),
            Event::Delete(object) => read(&object)
                .and_then(|row| self.set(row.key, None))
                .into_iter()
                .collect(),
        }
    }

    /// The value of a key, if there is a row.
    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.rows.get(key).map(Box::as_ref)
    }

    /// All values, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.rows.values().map(Box::as_ref)
    }

    /// All rows, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter().map(|(key, value)| (key, value.as_ref()))
    }

    fn set(&mut self, key: K, after: Option<V>) -> Option<Change<V>> {
        let before = match &after {
            Some(value) => self.rows.insert(key, Box::new(value.clone())),
            None => self.rows.remove(&key),
        };
        let before = before.map(|before| *before);
        (before != after).then_some(Change { before, after })
    }

    /// Replaces the rows of the scope by those of its list.
    fn replace(&mut self, scope: &Scope) -> Vec<Change<V>> {
        let listed = self.incoming.remove(&list_of(scope)).unwrap_or_default();
        let is_listed = |key: &K| {
            scope
                .namespace()
                .is_none_or(|own| key.namespace() == Some(own))
        };
        let mut old: HashMap<K, Box<V>> = self.rows.extract_if(|key, _| is_listed(key)).collect();
        let mut changes = Vec::new();
        for (key, after) in listed {
            let before = old.remove(&key).map(|before| *before);
            if before.as_ref() != Some(after.as_ref()) {
                changes.push(Change {
                    before,
                    after: Some(after.as_ref().clone()),
                });
            }
            self.rows.insert(key, after);
        }
        changes.extend(old.into_values().map(|before| Change {
            before: Some(*before),
            after: None,
        }));
        self.rows.shrink_to_fit();
        changes
    }
}

fn list_of(scope: &Scope) -> Option<String> {
    scope.namespace().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespaces::Namespaces;

    type Object = (&'static str, Option<u8>);

    #[allow(clippy::unnecessary_wraps, reason = "in the form that a table takes")]
    fn read(object: &Object) -> Option<Row<String, u8>> {
        Some(Row {
            key: object.0.to_owned(),
            value: object.1,
        })
    }

    fn change(before: Option<u8>, after: Option<u8>) -> Change<u8> {
        Change { before, after }
    }

    fn filled() -> Table<String, u8> {
        let mut table = Table::default();
        for event in [
            Event::Init,
            Event::InitApply(("a", Some(1))),
            Event::InitApply(("b", Some(2))),
            Event::InitApply(("dull", None)),
        ] {
            assert_eq!(table.take(&Scope::ALL, event, read), []);
        }
        assert_eq!(table.values().count(), 0);
        assert_eq!(table.take(&Scope::ALL, Event::InitDone, read).len(), 2);
        table
    }

    #[test]
    fn only_what_is_different_is_a_change() {
        let mut table = filled();
        assert_eq!(
            table.take(&Scope::ALL, Event::Apply(("a", Some(1))), read),
            []
        );
        assert_eq!(
            table.take(&Scope::ALL, Event::Apply(("a", Some(3))), read),
            [change(Some(1), Some(3))]
        );
        assert_eq!(
            table.take(&Scope::ALL, Event::Apply(("dull", None)), read),
            []
        );
        assert_eq!(
            table.take(&Scope::ALL, Event::Delete(("b", Some(2))), read),
            [change(Some(2), None)]
        );
        assert_eq!(
            table.take(&Scope::ALL, Event::Delete(("b", Some(2))), read),
            []
        );
        assert_eq!((table.get("a"), table.get("b")), (Some(&3), None));
    }

    #[test]
    fn what_loses_its_interest_is_dropped() {
        let mut table = filled();
        assert_eq!(
            table.take(&Scope::ALL, Event::Apply(("a", None)), read),
            [change(Some(1), None)]
        );
        assert_eq!(table.values().collect::<Vec<_>>(), [&2]);
    }

    #[test]
    fn a_new_list_replaces_all_and_reports_what_has_changed() {
        let mut table = filled();
        table.take(&Scope::ALL, Event::Init, read);
        table.take(&Scope::ALL, Event::InitApply(("a", Some(1))), read);
        table.take(&Scope::ALL, Event::InitApply(("c", Some(9))), read);
        assert_eq!(table.get("b"), Some(&2), "until the list is complete");
        let mut changes = table.take(&Scope::ALL, Event::InitDone, read);
        changes.sort_by_key(|change| change.after);
        assert_eq!(changes, [change(Some(2), None), change(None, Some(9))]);
    }

    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct InA(&'static str, u8);

    impl Key for InA {
        fn namespace(&self) -> Option<&str> {
            Some(self.0)
        }
    }

    #[test]
    fn a_list_of_one_namespace_replaces_its_rows_alone() {
        let scopes: Vec<Scope> = "a,b".parse::<Namespaces>().unwrap().scopes();
        let mut table: Table<InA, u8> = Table::default();
        let read = |object: &(&'static str, u8)| {
            Some(Row {
                key: InA(object.0, object.1),
                value: Some(object.1),
            })
        };
        // Both lists are under way at the same time.
        for scope in &scopes {
            table.take(scope, Event::Init, read);
        }
        table.take(&scopes[0], Event::InitApply(("a", 1)), read);
        table.take(&scopes[1], Event::InitApply(("b", 2)), read);
        assert_eq!(
            table.take(&scopes[0], Event::InitDone, read),
            [change(None, Some(1))]
        );
        assert_eq!(
            table.take(&scopes[1], Event::InitDone, read),
            [change(None, Some(2))]
        );
        // A list that fails begins again, and leaves that of the other as it is.
        table.take(&scopes[0], Event::Init, read);
        table.take(&scopes[0], Event::InitApply(("a", 3)), read);
        table.take(&scopes[0], Event::Init, read);
        assert_eq!(
            table.take(&scopes[0], Event::InitDone, read),
            [change(Some(1), None)]
        );
        assert_eq!(table.values().collect::<Vec<_>>(), [&2]);
    }
}
