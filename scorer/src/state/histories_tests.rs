use super::*;
use crate::samples::{NOW, classifier};

const MINUTE: i64 = 60_000;

fn user() -> UserId {
    UserId("shop.example".into())
}

fn identity(name: &str) -> Identity {
    Identity(name.into())
}

fn sighting(number: u16) -> Sighting {
    let mut text = [0; 32];
    text[..2].copy_from_slice(&number.to_le_bytes());
    // No two are alike.
    (2..32u16).for_each(|at| text[usize::from(at)] = 1 + (number.wrapping_mul(31 + at) % 255) as u8);
    Sighting {
        recipients: vec![number],
        domains: vec![number % 7],
        from_domain: Some(number % 3),
        text: Some(Fingerprint(text)),
        is_of_user: true,
    }
}

/// Every second message goes to a large receiver.
fn bulk(number: u16) -> Vec<Sent> {
    let receiver = crate::bulk::receivers::of("gmail.com").unwrap();
    let sent = Sent { receiver, pair: u32::from(number % 50), recipients: 1 };
    Vec::from_iter((number.is_multiple_of(2)).then_some(sent))
}

/// What is remembered of the senders, and what stands in the topic of it.
#[derive(Default)]
struct Owner {
    senders: Senders,
    topic: std::collections::BTreeMap<(UserId, Part), Vec<u8>>,
}

impl Owner {
    fn send(&mut self, name: &str, number: u16, at: Timestamp) {
        let judgement = crate::score_file::score_message(b"From: a@b.example\r\n\r\n", classifier(), at);
        let message = MessageSummary {
            user: user(),
            identity: identity(name),
            accepted_at: at,
            ..judgement.verdict.message
        };
        let fate = if number.is_multiple_of(5) { Fate::Quarantined } else { Fate::Released };
        self.senders.note_behaviour(&message, &sighting(number), fate);
        self.senders.note_bulk(&message.user, &bulk(number), at);
        self.senders.count(&message, None, fate);
    }

    fn commit(&mut self) -> usize {
        let rows = self.senders.histories.take_dirty();
        let count = rows.len();
        for (user, part, value) in rows {
            assert!(value.len() <= 16 * 1024 && self.topic.insert((user, part), value).is_none_or(|_| true));
        }
        count
    }

    /// As another owner reads it.
    fn read(&self) -> Histories {
        let mut histories = Histories::default();
        for ((user, part), value) in self.topic.iter().rev() {
            let key = part.key(user);
            let kind = schemas::senders::kind_of_key(&key);
            assert_eq!(kind, Some(schemas::senders::Kind::History(user.clone(), part.clone())));
            histories.put(user.clone(), part.clone(), value).unwrap();
        }
        histories
    }
}

#[test]
fn another_owner_knows_what_the_first_knew() {
    let mut owner = Owner::default();
    let mut at = NOW;
    for number in 0..700u16 {
        at = Timestamp(at.0 + i64::from(number % 13) * 10 * MINUTE);
        owner.send(&format!("account-{}", number % 6), number / 3, at);
        if number % 10 == 0 {
            owner.commit();
            assert_eq!(owner.read(), owner.senders.histories);
        }
    }
    owner.commit();
    assert_eq!(owner.commit(), 0);
    assert_eq!(owner.read(), owner.senders.histories);
}

#[test]
fn only_what_changed_is_written_and_once() {
    let mut owner = Owner::default();
    owner.send("bob", 1, NOW);
    let parts = |owner: &mut Owner| -> Vec<Part> {
        owner.senders.histories.take_dirty().into_iter().map(|(_, part, _)| part).collect()
    };
    // A first message leaves no history of its identity.
    assert_eq!(parts(&mut owner), [Part::Arrivals, Part::Text(0)]);
    owner.send("bob", 1, NOW);
    owner.send("bob", 1, NOW);
    let bob = || identity("bob");
    assert_eq!(parts(&mut owner), [Part::Rates(bob()), Part::Contacts(bob()), Part::Text(0)]);
    // To somebody it knows.
    owner.send("bob", 1, NOW);
    assert_eq!(parts(&mut owner), [Part::Rates(bob())]);
    owner.senders.note_bulk(&user(), &bulk(2), NOW);
    owner.senders.note_bulk(&user(), &bulk(4), NOW);
    owner.senders.note_bulk(&user(), &[], NOW);
    assert_eq!(parts(&mut owner), [Part::Bulk]);
}

#[test]
fn what_an_idle_identity_leaves_behind_goes_with_it() {
    let mut owner = Owner::default();
    for number in 0..10 {
        owner.send("bob", number, NOW);
        owner.send("eve", number, NOW);
    }
    owner.commit();
    let histories = &mut owner.senders.histories;
    let bob = histories.leave(&user(), Some(&identity("bob")));
    assert_eq!(bob, [Part::Rates(identity("bob")), Part::Contacts(identity("bob"))]);
    assert_eq!(histories.leave(&user(), Some(&identity("bob"))), []);
    let of_user = histories.leave(&user(), None);
    assert_eq!(of_user.len(), 12, "{of_user:?}");
    histories.leave(&user(), Some(&identity("eve")));
    assert_eq!(*histories, Histories::default());
    // The same from the topic.
    let mut read = owner.read();
    owner.topic.keys().for_each(|(user, part)| read.remove(user, part));
    let left = read.known(&user(), &identity("bob"), NOW);
    assert!(left.rates.is_none() && left.contacts.is_none() && left.arrivals == 0);
}

#[test]
fn texts_of_several_outlast_those_of_one() {
    let mut owner = Owner::default();
    for name in ["bob", "eve"] {
        owner.send(name, 0, NOW);
    }
    for number in 1..2000u16 {
        owner.send(&format!("account-{number}"), number, Timestamp(NOW.0 + i64::from(number)));
        if number % 100 == 0 {
            owner.commit();
            assert_eq!(owner.read(), owner.senders.histories);
        }
    }
    let known = owner.senders.known(&user(), &identity("bob"), NOW);
    assert_eq!(known.texts.len(), MAX_TEXTS_PER_USER);
    assert!(same_text(known.texts, &sighting(0).text.unwrap()).is_some());
    assert!(same_text(known.texts, &sighting(1999).text.unwrap()).is_some());
    assert!(same_text(known.texts, &sighting(5).text.unwrap()).is_none());
    assert_eq!(owner.senders.histories.texts, MAX_TEXTS_PER_USER);
}

#[test]
fn a_history_takes_little_memory() {
    let size = std::mem::size_of::<(Identity, OfIdentity)>();
    assert!(size <= 500, "{size}");
}
