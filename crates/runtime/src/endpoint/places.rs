//! Who is served at a time, and who makes room for a new client.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Bounds on the connections of one listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Of all clients together; at least one.
    pub(super) all: usize,
    /// Of one address; at least one.
    pub(super) per_address: usize,
}

/// Whether the head of a connection's request is complete.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

impl Asked {
    /// The head is complete, and is being answered.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connections that are served, the oldest first. `T` is what ends one of them.
#[derive(Debug)]
pub(super) struct Places<T> {
    bounds: Bounds,
    held: Vec<Place<T>>,
}

#[derive(Debug)]
struct Place<T> {
    address: IpAddr,
    asked: Asked,
    connection: T,
}

impl<T> Places<T> {
    pub(super) const fn new(bounds: Bounds) -> Self {
        let held = Vec::new();
        Self { bounds, held }
    }

    /// Takes out the connection that has to end before one of `address` may be served, if any.
    ///
    /// A client is never kept waiting, since those that do nothing could then keep it waiting
    /// for ever. The connection is one of the address that holds most of what is short, and
    /// among these the oldest that has not asked yet: an honest client sends its request at once.
    pub(super) fn make_room(&mut self, address: IpAddr) -> Option<T> {
        let mut counts = HashMap::<IpAddr, usize>::new();
        for place in &self.held {
            *counts.entry(place.address).or_default() += 1;
        }
        let crowded = if counts.get(&address) >= Some(&self.bounds.per_address) {
            address
        } else if self.held.len() >= self.bounds.all {
            let most = counts.values().max().copied();
            let has_most = |place: &&Place<T>| counts.get(&place.address).copied() == most;
            self.held.iter().find(has_most)?.address
        } else {
            return None;
        };
        let of_crowded = self.held.iter().enumerate();
        let of_crowded = of_crowded.filter(|(_, place)| place.address == crowded);
        let (index, _) = of_crowded.min_by_key(|(_, place)| place.asked.get())?;
        Some(self.held.remove(index).connection)
    }

    /// A connection of `address` is served.
    pub(super) fn add(&mut self, address: IpAddr, asked: Asked, connection: T) {
        self.held.push(Place {
            address,
            asked,
            connection,
        });
    }

    /// Connections that fulfil the condition have ended.
    pub(super) fn remove(&mut self, has_ended: impl Fn(&T) -> bool) {
        self.held.retain(|place| !has_ended(&place.connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections of these addresses (the last byte of each), named by their order from 0.
    fn places(addresses: &[u8]) -> Places<usize> {
        let mut places = Places::new(Bounds {
            all: 5,
            per_address: 3,
        });
        for (index, address) in addresses.iter().enumerate() {
            places.add(ip(*address), Asked::default(), index);
        }
        places
    }

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn while_there_is_room_all_stay() {
        assert_eq!(places(&[]).make_room(ip(1)), None);
        assert_eq!(places(&[1, 1, 2, 3]).make_room(ip(1)), None);
    }

    #[test]
    fn an_address_with_its_share_makes_room_for_itself() {
        let mut places = places(&[2, 1, 1, 1]);
        assert_eq!(places.make_room(ip(1)), Some(1));
        places.add(ip(1), Asked::default(), 4);
        assert_eq!(places.make_room(ip(1)), Some(2));
    }

    #[test]
    fn when_all_is_taken_the_address_that_has_most_makes_room() {
        assert_eq!(places(&[1, 2, 3, 2, 4]).make_room(ip(5)), Some(1));
        // Of addresses with as many as others, the oldest connection.
        assert_eq!(places(&[1, 2, 3, 4, 5]).make_room(ip(6)), Some(0));
    }

    #[test]
    fn those_that_are_answered_stay_as_long_as_others_are_silent() {
        let mut places = places(&[1, 1, 1]);
        places.held[0].asked.set();
        assert_eq!(places.make_room(ip(1)), Some(1));
        places.held[1].asked.set();
        places.add(ip(1), Asked::default(), 3);
        assert_eq!(places.make_room(ip(1)), Some(3));
        places.add(ip(1), Asked::default(), 4);
        places.held[2].asked.set();
        // A client that does not read its answer holds nothing for ever either.
        assert_eq!(places.make_room(ip(1)), Some(0));
    }

    #[test]
    fn a_connection_that_has_ended_gives_its_place_back() {
        let mut places = places(&[1, 1, 1]);
        places.remove(|connection| *connection == 1);
        assert_eq!(places.make_room(ip(1)), None);
    }
}
