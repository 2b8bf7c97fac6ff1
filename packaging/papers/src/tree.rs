//! What is in a program, by what `cargo metadata` says.
//!
//! In it is what it depends on, and what that depends on; not what is needed only to test or to build. Two
//! corrections: a procedural macro is an ordinary dependency to cargo, but leaves nothing in the program
//! besides what it writes; and a `…-src` crate is one for the build, but its C sources are in the program.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::{Context, Result};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

/// `None` is what cargo calls a normal one.
#[derive(Debug, Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

/// A crate.
#[derive(Debug, Deserialize)]
pub struct Package {
    id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SPDX, as its makers wrote it.
    pub license: Option<String>,
    /// Its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// The registry; `None` for a crate of this workspace.
    pub source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: Vec<String>,
}

/// A program and what is in it.
#[derive(Debug)]
pub struct Tree {
    /// The program itself, first, and then by name and version; with the places of what each depends on.
    pub packages: Vec<(Package, Vec<usize>)>,
}

impl Tree {
    /// Reads the answer of `cargo metadata`.
    ///
    /// # Errors
    /// It is none, or does not know the program.
    pub fn new(metadata: &str, program: &str) -> Result<Self> {
        let metadata: Metadata = serde_json::from_str(metadata).context("cargo metadata")?;
        let ours = |package: &&Package| package.source.is_none() && package.name == program;
        let root = metadata.packages.iter().find(ours);
        let root = root
            .with_context(|| format!("no crate {program}"))?
            .id
            .clone();
        let known: BTreeMap<&str, &Package> = metadata
            .packages
            .iter()
            .map(|package| (&*package.id, package))
            .collect();
        let edges: BTreeMap<&str, Vec<&str>> = { metadata.resolve.nodes.iter() }
            .map(|node| (&*node.id, linked(node, &known)))
            .collect();

        let (mut found, mut left) = (BTreeSet::new(), vec![&*root]);
        while let Some(id) = left.pop() {
            if found.insert(id) {
                left.extend(edges.get(id).into_iter().flatten());
            }
        }
        let mut ids: Vec<String> = found.into_iter().map(str::to_owned).collect();
        ids.sort_by_key(|id| {
            let package = known.get(&**id);
            (
                *id != root,
                package.map(|package| (package.name.clone(), package.version.clone())),
            )
        });
        let places: BTreeMap<&str, usize> = { ids.iter().enumerate() }
            .map(|(place, id)| (&**id, place))
            .collect();
        let mut below: Vec<Vec<usize>> = { ids.iter() }
            .map(|id| {
                let edges = edges.get(&**id).into_iter().flatten();
                edges.filter_map(|to| places.get(to).copied()).collect()
            })
            .collect();
        let wanted: BTreeMap<String, usize> = places
            .iter()
            .map(|(id, place)| ((*id).to_owned(), *place))
            .collect();
        let mut packages: Vec<(Package, Vec<usize>)> = { metadata.packages.into_iter() }
            .filter_map(|package| {
                let place = wanted.get(&package.id)?;
                let below = below.get_mut(*place).map(std::mem::take)?;
                Some((package, below))
            })
            .collect();
        packages.sort_by_key(|(package, _)| wanted.get(&package.id).copied());
        Ok(Self { packages })
    }
}

fn linked<'a>(node: &'a Node, known: &BTreeMap<&str, &Package>) -> Vec<&'a str> {
    let is_in = |edge: &&Edge| {
        let Some(package) = known.get(&*edge.pkg) else {
            return false;
        };
        let mut targets = package.targets.iter().flat_map(|target| &target.kind);
        if targets.any(|kind| kind == "proc-macro") {
            return false;
        }
        edge.dep_kinds
            .iter()
            .any(|kind| match kind.kind.as_deref() {
                None => true,
                Some("build") => package.name.ends_with("-src"),
                Some(_) => false,
            })
    };
    node.deps
        .iter()
        .filter(is_in)
        .map(|edge| &*edge.pkg)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_program_is_what_is_linked_and_not_what_builds_or_tests_it() {
        let package = |name: &str, kind: &str, source: &str| {
            format!(
                r#"{{"id":"{name}","name":"{name}","version":"1.0.0","license":"MIT","manifest_path":"/x/Cargo.toml","source":{source},"targets":[{{"kind":["{kind}"]}}]}}"#
            )
        };
        let edge = |name: &str, kind: &str| {
            format!(r#"{{"pkg":"{name}","dep_kinds":[{{"kind":{kind}}}]}}"#)
        };
        let crates = [
            package("tls", "lib", "\"r\""),
            package("agent", "bin", "null"),
            package("derive", "proc-macro", "\"r\""),
            package("tls-src", "lib", "\"r\""),
            package("cc", "lib", "\"r\""),
            package("proptest", "lib", "\"r\""),
        ];
        let agent = [
            edge("tls", "null"),
            edge("derive", "null"),
            edge("proptest", "\"dev\""),
        ];
        let tls = [edge("tls-src", "\"build\""), edge("cc", "\"build\"")];
        let metadata = format!(
            r#"{{"packages":[{}],"resolve":{{"nodes":[{{"id":"agent","deps":[{}]}},{{"id":"tls","deps":[{}]}}]}}}}"#,
            crates.join(","),
            agent.join(","),
            tls.join(",")
        );
        let tree = Tree::new(&metadata, "agent").unwrap();
        let found: Vec<_> = { tree.packages.iter() }
            .map(|(package, below)| (&*package.name, below.clone()))
            .collect();
        assert_eq!(
            found,
            [("agent", vec![1]), ("tls", vec![2]), ("tls-src", vec![])]
        );
        assert!(Tree::new(&metadata, "sink").is_err());
    }
}
