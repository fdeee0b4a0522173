//! The table that says how good a way of training is: on what the index holds out, and with each kind of mail left out.

use std::fmt::Write as _;

use super::calibrate::{self, Scored};
use super::measure::{Measures, calibration_error, measure, threshold};
use super::{INVENTED, Plan, Prepared, cross_validate, learner};

/// One line of the table: trained without some, measured on others.
struct Line {
    name: String,
    /// With the probabilities that a calibration fitted to other mail gives them.
    scored: Vec<(Scored, f32)>,
}

/// Measures what `plan` trains, and writes a table in Markdown. Restricted corpora (`plan.without`) are never trained with;
/// they are measured with.
#[must_use]
pub fn table(messages: &[Prepared], plan: &Plan) -> String {
    let mut lines = vec![held_out(messages, plan), cross_validation(messages, plan)];
    for group in groups(messages) {
        if group == INVENTED {
            continue;
        }
        let is_restricted = plan.without.iter().any(|name| group.starts_with(name.as_str()));
        if !is_restricted {
            lines.extend(without_group(messages, plan, &group));
        }
    }
    let mut out = String::from(
        "| trained on, measured on | ham | spam | 1-AUC % | recall % at 0.1 % FP | at 1 % FP | calibration error % |\n|---|---|---|---|---|---|---|\n",
    );
    for line in &lines {
        write_line(&mut out, line);
    }
    for line in lines.iter().take(2) {
        let _ = writeln!(
            out,
            "\nBy corpus, {}, at that line's own thresholds:\n\n| corpus | label | messages | flagged % at 0.1 % FP | at 1 % FP |\n|---|---|---|---|---|",
            line.name
        );
        by_corpus(&mut out, line);
    }
    out
}

/// Corpora, joined by the first word of their names: parts of one archive are not strangers to each other.
fn groups(messages: &[Prepared]) -> Vec<String> {
    let mut groups: Vec<String> = messages.iter().map(|m| group(&m.labelled.corpus).to_owned()).collect();
    groups.sort();
    groups.dedup();
    groups
}

fn group(corpus: &str) -> &str {
    corpus.split('-').next().unwrap_or(corpus)
}

fn is_restricted(message: &Prepared, plan: &Plan) -> bool {
    plan.without.iter().any(|name| message.labelled.corpus.starts_with(name.as_str()))
}

fn held_out(messages: &[Prepared], plan: &Plan) -> Line {
    let train: Vec<&Prepared> =
        messages.iter().filter(|m| !m.labelled.is_held_out && !is_restricted(m, plan)).collect();
    let test: Vec<&Prepared> = messages.iter().filter(|m| m.labelled.is_held_out).collect();
    line("the `train` column, the `val` column", &train, &test, plan)
}

/// Everything that may be trained with, each message by a model that did not see it or its like; and the restricted corpora,
/// which no model saw.
fn cross_validation(messages: &[Prepared], plan: &Plan) -> Line {
    let own: Vec<&Prepared> = messages.iter().filter(|m| !is_restricted(m, plan)).collect();
    let restricted: Vec<&Prepared> = messages.iter().filter(|m| is_restricted(m, plan)).collect();
    let unseen = cross_validate(&own, &plan.recipe);
    let calibration = calibrate::fit(&unseen);
    let mut scored: Vec<(Scored, f32)> =
        unseen.into_iter().map(|s| (s.clone(), calibration.probability(s.sum) as f32)).collect();
    scored.extend(line("", &own, &restricted, plan).scored);
    Line { name: "five folds, near-duplicates together; restricted corpora unseen".into(), scored }
}

fn without_group(messages: &[Prepared], plan: &Plan, left_out: &str) -> Option<Line> {
    let is_in = |m: &&Prepared| group(&m.labelled.corpus) == left_out;
    let train: Vec<&Prepared> = messages.iter().filter(|m| !is_restricted(m, plan) && !is_in(m)).collect();
    let test: Vec<&Prepared> = messages.iter().filter(|m| is_in(m) || is_restricted(m, plan)).collect();
    let kinds = |of: &[&Prepared]| {
        let spam = of.iter().filter(|m| m.labelled.is_spam).count();
        spam > 0 && spam < of.len()
    };
    (kinds(&train) && kinds(&test)).then(|| {
        line(&format!("all but {left_out}, {left_out} and the restricted corpora"), &train, &test, plan)
    })
}

fn line(name: &str, train: &[&Prepared], test: &[&Prepared], plan: &Plan) -> Line {
    let calibration = calibrate::fit(&cross_validate(train, &plan.recipe));
    let examples: Vec<_> = train.iter().map(|m| &m.example).collect();
    let weights = learner::learn(&examples, &plan.recipe);
    let scored = |message: &&Prepared| {
        let sum = weights.score(&message.example);
        let labelled = &message.labelled;
        let scored = Scored { sum, is_spam: labelled.is_spam, corpus: labelled.corpus.clone() };
        (scored, calibration.probability(sum) as f32)
    };
    Line { name: name.into(), scored: test.iter().map(scored).collect() }
}

fn write_line(out: &mut String, line: &Line) {
    let sums: Vec<(f32, bool)> = line.scored.iter().map(|(s, _)| (s.sum, s.is_spam)).collect();
    let probabilities: Vec<(f32, bool)> = line.scored.iter().map(|(s, p)| (*p, s.is_spam)).collect();
    let Measures { ham, spam, one_minus_auc, recall_at_tenth_percent, recall_at_one_percent } =
        measure(&sums);
    let _ = writeln!(
        out,
        "| {} | {ham} | {spam} | {:.3} | {:.1} | {:.1} | {:.1} |",
        line.name,
        one_minus_auc * 100.0,
        recall_at_tenth_percent * 100.0,
        recall_at_one_percent * 100.0,
        calibration_error(&probabilities) * 100.0
    );
}

fn by_corpus(out: &mut String, line: &Line) {
    let mut ham: Vec<f32> = line.scored.iter().filter(|(s, _)| !s.is_spam).map(|(s, _)| s.sum).collect();
    ham.sort_by(f32::total_cmp);
    let points = [threshold(&ham, 0.001), threshold(&ham, 0.01)];
    let mut corpora: Vec<(&str, bool)> =
        line.scored.iter().map(|(s, _)| (s.corpus.as_str(), s.is_spam)).collect();
    corpora.sort_unstable();
    corpora.dedup();
    for (corpus, is_spam) in corpora {
        let sums: Vec<f32> = line
            .scored
            .iter()
            .filter(|(s, _)| s.corpus == corpus && s.is_spam == is_spam)
            .map(|(s, _)| s.sum)
            .collect();
        let share =
            points.map(|point| sums.iter().filter(|sum| **sum > point).count() as f64 / sums.len() as f64);
        let label = if is_spam { "spam" } else { "ham" };
        let _ = writeln!(
            out,
            "| {corpus} | {label} | {} | {:.2} | {:.2} |",
            sums.len(),
            share[0] * 100.0,
            share[1] * 100.0
        );
    }
}
