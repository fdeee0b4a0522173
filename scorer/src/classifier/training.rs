//! Training: from folders of mail to a model. The same folders and seed give the same model, bit for bit.

pub mod corpus;
pub mod learner;
pub mod measure;
