//! `mailweir train`: from folders of mail to a model file.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use scorer::classifier::training::{self, Plan, Prepared, report};

/// Train the content classifier with a site's own mail.
///
/// Each DIR holds either the folders `spam` and `ham`, with one message a file, at any depth; or `index.tsv` with one line a
/// message: path (relative to DIR), `ham` or `spam`, and if wanted the name of its corpus and `train` or `val` (kept out of
/// training, to measure with). The same mail and seed give the same model. Put its path into `mailweir.toml` as
/// `[scorer] model`, and try it first with `mailweir score --model FILE`.
#[derive(Debug, Args)]
pub(super) struct TrainArguments {
    /// Directories with mail.
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Where the model is written.
    #[arg(long, default_value = "model.bin")]
    out: PathBuf,
    /// What the model's version begins with.
    #[arg(long, default_value = "site")]
    name: String,
    /// Leave out corpora whose name begins so; they are measured with all the same.
    #[arg(long, value_name = "CORPUS", value_delimiter = ',')]
    without: Vec<String>,
    /// How much a message of a corpus counts, as `shop=4`; by the beginning of the corpus's name.
    #[arg(long, value_name = "CORPUS=NUMBER", value_delimiter = ',', value_parser = count)]
    count: Vec<(String, f32)>,
    /// A file with corrections of labels: the end of a path, a tab, `ham` or `spam`.
    #[arg(long, value_name = "FILE")]
    corrections: Vec<PathBuf>,
    /// How many messages Mailweir invents to train with besides: phishing in known names, and its honest counterpart. A site's
    /// own mail is seldom enough without.
    #[arg(long, default_value_t = 4000)]
    invented: usize,
    /// Train with the messages that an index marks `val`, too.
    #[arg(long)]
    with_held_out: bool,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write no model, but a table of how good it would be on mail that was not trained with.
    #[arg(long)]
    measure: bool,
}

fn count(text: &str) -> Result<(String, f32), String> {
    let (corpus, number) = text.split_once('=').ok_or("write CORPUS=NUMBER")?;
    let number: f32 = number.parse().map_err(|_| format!("`{number}` is no number"))?;
    let is_usable = number.is_finite() && number > 0.0 && number <= 100.0;
    is_usable
        .then(|| (corpus.to_owned(), number))
        .ok_or_else(|| "the number must be above 0, up to 100".into())
}

pub(super) fn train(arguments: TrainArguments) -> anyhow::Result<()> {
    let out = arguments.out;
    let measure = arguments.measure;
    let plan = Plan {
        directories: arguments.directories,
        corrections: arguments.corrections,
        without: arguments.without,
        counts: arguments.count,
        invented: arguments.invented,
        with_held_out: arguments.with_held_out,
        recipe: training::learner::Recipe { seed: arguments.seed, ..Default::default() },
        name: arguments.name,
    };
    let prepared = training::prepare(&plan)?;
    if measure {
        print!("{}", report::table(&prepared, &plan));
        return Ok(());
    }
    let messages: Vec<&Prepared> = prepared.iter().filter(|m| plan.takes(&m.labelled)).collect();
    let model = training::train(&messages, &plan)?;
    std::fs::write(&out, model.encode()?).with_context(|| format!("{} cannot be written", out.display()))?;
    let card = &model.card;
    println!(
        "{}: {}, trained with {} ham and {} spam messages, seed {}",
        out.display(),
        card.version,
        card.ham,
        card.spam,
        card.seed
    );
    println!("spam from {:.4} on, suspect from {:.4} on", card.spam_threshold, card.suspect_threshold);
    Ok(())
}
