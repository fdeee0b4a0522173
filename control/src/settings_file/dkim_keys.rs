//! `[[dkim_key]]`.

use std::collections::BTreeMap;

use schemas::Domain;
use schemas::settings::DkimAlgorithm;

use super::KeyFile;
use super::node::Node;
use super::problem::Problem;
use super::users::{keep, parse_domain};
use crate::dkim::{self, NewKey, PrivateKey};

const ALGORITHM_FIX: &str = "write \"rsa\" (2048 bits), \"rsa4096\" or \"ed25519\"";
const SOURCE_FIX: &str = "write generate = true, or private_key_file = \"PATH\" of a PEM file";

/// A key that the file asks for.
#[derive(Clone, Debug)]
pub struct WantedKey {
    pub domain: Domain,
    pub selector: String,
    pub source: KeySource,
}

/// Where its private part comes from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// Made here, once; later applies keep it.
    Generate {
        kind: NewKey,
    },
    File(PrivateKey),
}

impl WantedKey {
    #[must_use]
    pub fn setting_key(&self) -> String {
        dkim::setting_key(&self.domain, &self.selector)
    }

    #[must_use]
    pub fn algorithm(&self) -> DkimAlgorithm {
        match &self.source {
            KeySource::Generate { kind } => kind.algorithm(),
            KeySource::File(key) => key.algorithm(),
        }
    }
}

/// What a settings file may name as `private_key_file`, in the order of the file.
pub fn files_named(root: &Node) -> Vec<String> {
    let keys = root.get("dkim_key").and_then(Node::items).unwrap_or_default();
    keys.iter().filter_map(|key| key.get("private_key_file")?.text().map(str::to_owned)).collect()
}

pub fn key(node: &Node, files: &BTreeMap<String, KeyFile>, problems: &mut Vec<Problem>) -> Option<WantedKey> {
    problems.extend(node.unknown_keys(&[
        "domain",
        "selector",
        "algorithm",
        "generate",
        "private_key_file",
        "private_key",
    ]));
    let domain = match node.get("domain") {
        Some(at) => keep(at.parse("a domain", "write it as \"customer.example\"", parse_domain), problems),
        None => {
            problems.push(
                node.missing("domain", "write the domain that signs, as domain = \"customer.example\""),
            );
            None
        }
    };
    let selector = match node.get("selector") {
        Some(at) => {
            let fix = "write letters, digits and hyphens, as \"s1\"";
            keep(at.parse("a selector", fix, dkim::parse_selector), problems)
        }
        None => {
            problems.push(node.missing("selector", "write one, as selector = \"s1\""));
            None
        }
    };
    let kind = node.get("algorithm").map(|at| {
        let parsed = NewKey::parse(at.text().unwrap_or(&at.shown()));
        keep(parsed.map_err(|reason| at.problem(reason, ALGORITHM_FIX)), problems)
    });
    let source = keep(source(node, kind.flatten(), files), problems);
    if matches!(kind, Some(None)) {
        return None;
    }
    Some(WantedKey { domain: domain?, selector: selector?, source: source? })
}

fn source(
    node: &Node,
    kind: Option<NewKey>,
    files: &BTreeMap<String, KeyFile>,
) -> Result<KeySource, Problem> {
    let generate = match node.get("generate") {
        Some(at) => at.read::<bool>("write generate = true, or remove it")?,
        None => false,
    };
    let file = node.get("private_key_file");
    let inline = node.get("private_key");
    let key = match (generate, file, inline) {
        (true, None, None) => return Ok(KeySource::Generate { kind: kind.unwrap_or(NewKey::Rsa2048) }),
        (false, Some(at), None) => from_file(at, files)?,
        (false, None, Some(at)) => {
            let pem = at.text().unwrap_or_default();
            PrivateKey::from_pem(pem)
                .map_err(|reason| at.problem(reason, "write an unencrypted PEM private key"))?
        }
        (false, None, None) => return Err(node.missing("generate", SOURCE_FIX)),
        _ => return Err(node.problem("has more than one source of its private key", SOURCE_FIX)),
    };
    if let Some(at) = node.get("algorithm")
        && kind.is_some_and(|kind| kind.algorithm() != key.algorithm())
    {
        return Err(at.problem(
            format!("`{}` is not the algorithm of the key that is given", at.shown()),
            "remove it: the key says it itself",
        ));
    }
    Ok(KeySource::File(key))
}

fn from_file(at: &Node, files: &BTreeMap<String, KeyFile>) -> Result<PrivateKey, Problem> {
    let fix = "give the path of an unencrypted PEM private key (RSA of 2048 bits or more, or Ed25519)";
    match at.text().and_then(|path| files.get(path)) {
        Some(KeyFile { content: Some(pem), .. }) => {
            PrivateKey::from_pem(pem).map_err(|reason| at.problem(format!("`{}` {reason}", at.shown()), fix))
        }
        Some(KeyFile { error: Some(error), .. }) => {
            Err(at.problem(format!("`{}` cannot be read: {error}", at.shown()), fix))
        }
        _ => Err(at.problem(format!("`{}` was not sent along", at.shown()), fix)),
    }
}
