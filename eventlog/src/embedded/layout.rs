//! Which partitions there are, and the place of each in the engine's arrays.

use schemas::Topic;
use schemas::topics::TopicPartition;

use crate::LogError;

/// The partitions of a log: fixed for as long as it is open.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    all: Vec<TopicPartition>,
    first: [usize; Topic::ALL.len()],
    multi: u32,
}

impl Layout {
    /// `multi`: the count of every topic that has more than one partition.
    pub(super) fn new(multi: u32) -> Self {
        let mut all = Vec::new();
        let mut first = [0; Topic::ALL.len()];
        for topic in Topic::ALL {
            first[topic as usize] = all.len();
            let count = if topic.single_partition() { 1 } else { multi };
            all.extend((0..count).map(|partition| TopicPartition { topic, partition }));
        }
        Layout { all, first, multi }
    }

    pub(super) fn partitions(&self, topic: Topic) -> u32 {
        if topic.single_partition() { 1 } else { self.multi }
    }

    pub(super) fn all(&self) -> &[TopicPartition] {
        &self.all
    }

    /// The place of a partition, or the error that there is none such.
    pub(super) fn index(&self, of: TopicPartition) -> Result<usize, LogError> {
        let partitions = self.partitions(of.topic);
        if of.partition >= partitions {
            return Err(LogError::NoSuchPartition { topic: of.topic, partition: of.partition, partitions });
        }
        Ok(self.first[of.topic as usize] + of.partition as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_its_own_place() {
        let layout = Layout::new(3);
        for (place, of) in layout.all().iter().enumerate() {
            assert_eq!(layout.index(*of).unwrap(), place);
        }
        assert_eq!(layout.partitions(Topic::Settings), 1);
        assert_eq!(layout.partitions(Topic::Senders), 3);
        let none = layout.index(TopicPartition { topic: Topic::Settings, partition: 1 });
        assert!(matches!(none, Err(LogError::NoSuchPartition { partitions: 1, .. })));
    }
}
