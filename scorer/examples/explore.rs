//! Exploration only.
use std::path::Path;
use scorer::classifier::{extract, lexicon::Lexicon, training::{corpus, learner::*, measure::*}};

fn group(c: &str) -> &'static str {
    if c.starts_with("sa-") { "sa" } else if c.starts_with("list-") { "list" } else if c.starts_with("phish") { "phish" } else { "modern" }
}
fn env(name: &str, default: f32) -> f32 { std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default) }

fn main() {
    let mut all = Vec::new();
    for d in ["dev", "dev-extra"] {
        all.extend(corpus::list(Path::new(&format!("/tmp/classifier-data/{d}"))).unwrap());
    }
    if std::env::var("RAWLABELS").is_err() {
        let fixes = std::fs::read_to_string("/work/classifier/scorer/model/corrections.tsv").unwrap();
        for f in fixes.lines().map(|l| l.split('\t').next().unwrap()) { for m in all.iter_mut().filter(|m| m.path.ends_with(Path::new("dev").join(f))) { m.is_spam = true; } }
    }
    all.retain(|m| !m.corpus.contains("unclear"));
    let t = std::time::Instant::now();
    let mw = env("MW", 4.0);
    let lexicon = Lexicon::new();
    let chunk = all.len().div_ceil(2);
    let examples: Vec<Example> = std::thread::scope(|s| {
        let hs: Vec<_> = all.chunks(chunk).map(|c| s.spawn(|| c.iter().map(|m| {
            let raw = std::fs::read(&m.path).unwrap();
            let f = scorer::classifier_features(&raw, &lexicon);
            let w = if group(&m.corpus) == "modern" { mw } else { 1.0 };
            Example::of(&f, m.is_spam, w)
        }).collect::<Vec<_>>())).collect();
        hs.into_iter().flat_map(|h| h.join().unwrap()).collect()
    });
    let n: usize = examples.iter().map(|e| e.keys.len()).sum();
    eprintln!("{} messages, {:.0} features each, {:.0} us each (2 threads)", all.len(), n as f64 / all.len() as f64, t.elapsed().as_micros() as f64 / all.len() as f64 * 2.0);
    let mut recipe = Recipe { seed: env("SEED", 1.0) as u64, passes: env("PASSES", 4.0) as usize, rate: env("RATE", 0.3), decay: env("DECAY", 0.0), min_messages: env("MIN", 2.0) as u32, block_dropout: env("DROP", 0.0), ..Recipe::default() };
    if let Ok(v) = std::env::var("BS") { for (i, x) in v.split(',').enumerate() { recipe.block_scale[i] = x.parse().unwrap(); } }
    // near-duplicate-safe folds: by a hash of subject words block
    let fold = |e: &Example| { let s = &e.keys[e.ends[2] as usize..e.ends[3] as usize]; (s.iter().fold(0u64, |a, k| a ^ k) >> 7) % 4 };
    let show = |name: &str, v: &[(f32, bool)]| { let m = measure(v); println!("{name:26} ham {:5} spam {:5} 1-AUC {:6.3}%  R@0.1 {:5.1}%  R@1 {:5.1}%", m.ham, m.spam, 100.0*m.one_minus_auc, 100.0*m.recall_at_tenth_percent, 100.0*m.recall_at_one_percent); };
    let nc = |i: usize| group(&all[i].corpus) == "phish";
    let run = |train: &dyn Fn(usize) -> bool, test: &dyn Fn(usize) -> bool| -> Vec<(usize, f32)> {
        let tr: Vec<&Example> = (0..all.len()).filter(|i| train(*i)).map(|i| &examples[i]).collect();
        let w = learn_many(&tr, &recipe, env("BAGS", 1.0) as usize);
        (0..all.len()).filter(|i| test(*i)).map(|i| (i, w.score(&examples[i]))).collect()
    };
    let tasks: Vec<(&str, Box<dyn Fn(usize) -> Vec<(usize, f32)> + Sync>)> = vec![];
    drop(tasks);
    let lab = |v: &[(usize, f32)]| v.iter().map(|(i, s)| (*s, all[*i].is_spam)).collect::<Vec<_>>();
    let which = std::env::var("WHICH").unwrap_or("PL".into());
    let mut p = Vec::new();
    if which.contains('P') {
        for k in 0..4u64 { p.extend(run(&|i| !nc(i) && fold(&examples[i]) != k, &|i| fold(&examples[i]) == k)); }
        show("P: 4-fold, no phishpot", &lab(&p));
        let pp: Vec<_> = p.iter().copied().filter(|(i, _)| nc(*i) || !all[*i].is_spam).collect();
        show("   of which phishpot", &lab(&pp));
        let pm: Vec<_> = p.iter().copied().filter(|(i, _)| group(&all[*i].corpus) == "modern").collect();
        show("   of which modern", &lab(&pm));
    }
    if which.contains('L') {
        let mut l: Vec<(usize, f32)> = Vec::new();
        for g in ["sa", "list", "modern"] {
            let r = run(&|i| !nc(i) && group(&all[i].corpus) != g, &|i| group(&all[i].corpus) == g || nc(i));
            show(&format!("L: without {g}, +phishpot"), &lab(&r));
            l.extend(r);
        }
        show("L: pooled", &lab(&l));
    }
    if which.contains('A') {
        let mut l: Vec<(usize, f32)> = Vec::new();
        for g in ["sa", "list", "modern"] {
            let r = run(&|i| group(&all[i].corpus) != g, &|i| group(&all[i].corpus) == g);
            show(&format!("A: without {g}"), &lab(&r));
            l.extend(r);
        }
        l.extend(p.iter().filter(|(i, _)| nc(*i)));
        show("A: pooled LOCO", &lab(&l));
        let mut c = Vec::new();
        for k in 0..4u64 { c.extend(run(&|i| fold(&examples[i]) != k, &|i| fold(&examples[i]) == k)); }
        show("A: 4-fold all", &lab(&c));
    }
    if let Ok(f) = std::env::var("DUMP") {
        let mut q = p.clone(); q.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut out = String::new();
        for (i, s) in q { out += &format!("{:.3}\t{}\t{}\t{}\n", s, if all[i].is_spam {"spam"} else {"ham"}, all[i].corpus, all[i].path.display()); }
        std::fs::write(f, out).unwrap();
    }
    let _ = extract::features;
}

fn learn_many(tr: &[&Example], recipe: &Recipe, n: usize) -> Weights {
    let ws: Vec<Weights> = std::thread::scope(|s| {
        let hs: Vec<_> = (0..n).map(|k| s.spawn(move || learn(tr, &Recipe { seed: recipe.seed * 100 + k as u64, ..recipe.clone() }))).collect();
        hs.into_iter().map(|h| h.join().unwrap()).collect()
    });
    let mut it = ws.into_iter();
    let mut sum = it.next().unwrap();
    for w in it { sum.bias += w.bias; for (a, b) in sum.of_bucket.iter_mut().zip(&w.of_bucket) { *a += b; } }
    sum.bias /= n as f32; for a in &mut sum.of_bucket { *a /= n as f32; }
    sum
}
