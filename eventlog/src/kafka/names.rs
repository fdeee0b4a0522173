//! Names on the cluster: the prefix, then our own.

use schemas::Topic;

/// Names of topics, groups and transactional ids of one log.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Names { prefix: prefix.to_owned() }
    }

    pub(super) fn topic(&self, topic: Topic) -> String {
        format!("{}{}", self.prefix, topic.name())
    }

    /// The topic of that name, if it is one of ours.
    pub(super) fn topic_of(&self, name: &str) -> Option<Topic> {
        let name = name.strip_prefix(self.prefix.as_str())?;
        Topic::ALL.into_iter().find(|topic| topic.name() == name)
    }

    pub(super) fn group(&self, group: &str) -> String {
        format!("{}{group}", self.prefix)
    }

    /// Stable over restarts, so that whoever comes back under a slot's name fences the one that was there.
    pub(super) fn transactional_id(&self, group: &str, slot: &str) -> String {
        format!("{}{group}.{slot}", self.prefix)
    }

    /// A group that readers without a group name for form's sake; nobody ever joins it.
    pub(super) fn readers(&self) -> String {
        format!("{}readers", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_topic() {
        for prefix in ["", "mailweir."] {
            let names = Names::new(prefix);
            for topic in Topic::ALL {
                assert_eq!(names.topic_of(&names.topic(topic)), Some(topic));
            }
        }
        assert_eq!(Names::new("a.").topic_of("accepted"), None);
        assert_eq!(Names::new("").topic_of("__consumer_offsets"), None);
    }
}
