//! Answers kept for as long as they hold, and each question asked once however many want to know.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

/// Answers by question; a bounded number of them.
pub struct Memory<K, V> {
    answers: Mutex<HashMap<K, Kept<V>>>,
    max: usize,
    at_a_time: Arc<Semaphore>,
    /// For those under way, and those that wait for their turn.
    places: Arc<Semaphore>,
}

/// The answer and until when it holds, or that it is still waited for.
type Kept<V> = watch::Receiver<Option<(V, Instant)>>;

impl<K: Eq + Hash, V: Clone + Send + Sync + 'static> Memory<K, V> {
    /// `max`: answers kept; `at_a_time`: questions under way; `max_waiting`: those that wait for their turn.
    pub fn new(max: usize, at_a_time: usize, max_waiting: usize) -> Self {
        Memory {
            answers: Mutex::default(),
            max,
            at_a_time: Arc::new(Semaphore::new(at_a_time)),
            places: Arc::new(Semaphore::new(at_a_time + max_waiting)),
        }
    }

    /// What is known, else what `look_up` says, with how long that holds. `look_up` goes on when the caller does not wait any
    /// longer: a slow answer is there for the next one; so it has to end. `None`, and at once, when too many wait already; and
    /// when it ended without an answer: a defect.
    pub async fn get<F>(&self, key: K, look_up: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = (V, Duration)> + Send + 'static,
    {
        let mut kept = self.kept(key, look_up)?;
        let answer = kept.wait_for(Option::is_some).await.ok()?;
        answer.as_ref().map(|(value, _)| value.clone())
    }

    fn kept<F>(&self, key: K, look_up: impl FnOnce() -> F) -> Option<Kept<V>>
    where
        F: Future<Output = (V, Duration)> + Send + 'static,
    {
        let now = Instant::now();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = answers.get(&key).filter(|kept| is_current(kept, now)) {
            return Some(kept.clone());
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        if answers.len() >= self.max {
            answers.retain(|_, kept| is_current(kept, now));
            // Nothing that is old: all are looked up anew when they are next wanted.
            if answers.len() >= self.max {
                answers.clear();
            }
        }
        let (tell, kept) = watch::channel(None);
        answers.insert(key, kept.clone());
        let (turns, look_up) = (Arc::clone(&self.at_a_time), look_up());
        tokio::spawn(async move {
            let _place = place;
            // An error means that the semaphore was closed, which nobody does.
            let Ok(_turn) = turns.acquire().await else { return };
            let (value, holds) = look_up.await;
            tell.send_replace(Some((value, Instant::now() + holds)));
        });
        Some(kept)
    }

    /// Takes what is known of these questions for unknown. Who asked one of them before still gets its answer.
    pub fn forget(&self, is_one: impl Fn(&K) -> bool) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| !is_one(key));
    }
}

fn is_current<V>(kept: &Kept<V>, now: Instant) -> bool {
    match &*kept.borrow() {
        Some((_, until)) => now < *until,
        // While somebody is there to tell it.
        None => kept.has_changed().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn what_many_want_to_know_is_asked_once_and_again_when_it_is_old() {
        let (memory, asked) = (Memory::new(10, 2, 10), Arc::new(AtomicUsize::new(0)));
        let get = |key: &'static str, holds| {
            let asked = Arc::clone(&asked);
            memory.get(key, move || async move {
                tokio::task::yield_now().await;
                (asked.fetch_add(1, Ordering::Relaxed), holds)
            })
        };
        let both = tokio::join!(get("a", LONG), get("a", LONG));
        assert_eq!(both, (Some(0), Some(0)));
        assert_eq!(get("a", LONG).await, Some(0));
        assert_eq!(get("b", Duration::ZERO).await, Some(1));
        assert_eq!(get("b", LONG).await, Some(2));
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_the_answer_to_the_next() {
        let memory = Memory::new(10, 1, 10);
        let (open, door) = tokio::sync::oneshot::channel::<()>();
        let slow = memory.get("a", || async {
            let _ = door.await;
            (1, LONG)
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), slow).await.is_err());
        open.send(()).unwrap();
        assert_eq!(memory.get("a", || async { (2, LONG) }).await, Some(1));
    }

    #[tokio::test]
    async fn it_is_bounded_and_survives_a_defect() {
        let memory = Memory::new(10, 1, 10);
        for n in 0..100 {
            assert_eq!(memory.get(n, || async move { (n, LONG) }).await, Some(n));
            assert!(memory.answers.lock().unwrap().len() <= 10);
        }
        let defect: Option<i32> = memory.get(1000, || async { panic!("a defect") }).await;
        assert_eq!(defect, None);
        assert_eq!(memory.get(1000, || async { (1, LONG) }).await, Some(1));
    }

    #[tokio::test]
    async fn when_too_many_wait_there_is_no_answer_at_once() {
        let memory = Memory::new(10, 1, 2);
        let (open, door) = watch::channel(false);
        let get = |key| {
            let mut door = door.clone();
            memory.get(key, move || async move {
                let _ = door.wait_for(|open| *open).await;
                (key, LONG)
            })
        };
        let mut asked = [1, 2, 3].map(|key| Box::pin(get(key)));
        for slow in &mut asked {
            assert!(futures_util::poll!(slow).is_pending());
        }
        assert_eq!(futures_util::poll!(Box::pin(get(4))), std::task::Poll::Ready(None));
        assert!(futures_util::poll!(Box::pin(get(1))).is_pending(), "what is asked already takes no place");
        open.send(true).unwrap();
        for (slow, key) in asked.into_iter().zip(1..) {
            assert_eq!(slow.await, Some(key));
        }
        while memory.places.available_permits() < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(get(4).await, Some(4));
    }

    #[tokio::test]
    async fn what_is_forgotten_is_asked_again() {
        let memory = Memory::new(10, 1, 10);
        for n in [1, 2] {
            memory.get(n, || async move { (n, LONG) }).await;
        }
        memory.forget(|key| *key == 1);
        assert_eq!(memory.get(1, || async { (10, LONG) }).await, Some(10));
        assert_eq!(memory.get(2, || async { (20, LONG) }).await, Some(2));
    }
}
