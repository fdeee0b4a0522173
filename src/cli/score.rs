//! `mailweir score`: what would become of messages in files.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use scorer::Classifier;
use scorer::classifier::training::corpus;

use super::ask;

#[derive(Debug, Args)]
pub(super) struct ScoreArguments {
    /// Messages; each is judged as if it were sent now by a user with default settings.
    files: Vec<PathBuf>,
    /// Paths, one a line (further columns are passed over), relative to the index; prints path, tab, and the content
    /// classifier's probability that it is spam for each.
    #[arg(long)]
    index: Option<PathBuf>,
    /// Labelled messages (path, tab, `spam` or `ham`; further columns are passed over), relative to this file, that are learnt
    /// from before anything is scored, as releases and confirmations are in use.
    #[arg(long)]
    feedback: Option<PathBuf>,
    /// A model that `mailweir train` wrote, in place of the one that ships with Mailweir.
    #[arg(long)]
    model: Option<PathBuf>,
}

pub(super) fn score(arguments: &ScoreArguments) -> anyhow::Result<()> {
    if arguments.files.is_empty() && arguments.index.is_none() {
        anyhow::bail!("name files with messages, or --index FILE");
    }
    let classifier = crate::pipeline::classifier_of(arguments.model.as_deref())?;
    let classifier = match &arguments.feedback {
        Some(feedback) => learn(&classifier, feedback)?,
        None => classifier,
    };
    if let Some(index) = &arguments.index {
        let text =
            std::fs::read_to_string(index).with_context(|| format!("{} cannot be read", index.display()))?;
        let directory = index.parent().unwrap_or(Path::new("."));
        for path in text.lines().filter_map(|line| line.split('\t').next()).filter(|path| !path.is_empty()) {
            let probability = scorer::spam_probability(&read(&directory.join(path))?, &classifier);
            // Thresholds stand close to 1, where the tenth digit still tells messages apart.
            println!("{path}\t{probability:.10}");
        }
    }
    for file in &arguments.files {
        print_judgement(file, &classifier)?;
    }
    Ok(())
}

fn learn(classifier: &Classifier, feedback: &Path) -> anyhow::Result<Classifier> {
    let directory = feedback.parent().unwrap_or(Path::new("."));
    let labelled = corpus::from_index(directory, feedback)?;
    let said = labelled.iter().map(|message| Ok((read(&message.path)?, message.is_spam)));
    let said: Vec<_> = said.collect::<anyhow::Result<_>>()?;
    let (classifier, learnt) =
        scorer::after_feedback(classifier, &said).context("the feedback cannot be learnt from")?;
    eprintln!("learnt from {learnt} of {} messages; the others were judged so already", said.len());
    Ok(classifier)
}

fn print_judgement(file: &Path, classifier: &Classifier) -> anyhow::Result<()> {
    let verdict = scorer::score_message(&read(file)?, classifier, ask::now()).verdict;
    println!(
        "{}: {} (score {:.4}), identity {}",
        file.display(),
        verdict.message.classification,
        verdict.score,
        verdict.message.identity
    );
    for symbol in &verdict.symbols {
        println!("    {} {:.4}  {}", symbol.name, symbol.weight, symbol.evidence);
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}
