//! The bill of materials, as [CycloneDX](https://cyclonedx.org) 1.5.

use anyhow::Result;
use serde_json::{Value, json};

use crate::tree::{Package, Tree};

/// The bill of a program. Without a time or a serial number: the same sources give the same bytes.
///
/// # Errors
/// None that is known.
pub fn cyclonedx(tree: &Tree) -> Result<String> {
    let name = |place: usize| {
        tree.packages
            .get(place)
            .map(|(package, _)| reference(package))
    };
    let mut components = tree.packages.iter().map(|(package, _)| component(package));
    let program = components.next();
    let dependencies: Vec<Value> = { tree.packages.iter() }
        .map(|(package, below)| {
            let below: Vec<String> = below.iter().filter_map(|place| name(*place)).collect();
            json!({ "ref": reference(package), "dependsOn": below })
        })
        .collect();
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": program },
        "components": components.collect::<Vec<_>>(),
        "dependencies": dependencies,
    });
    Ok(serde_json::to_string_pretty(&bill)? + "\n")
}

fn component(package: &Package) -> Value {
    let kind = if package.source.is_none() {
        "application"
    } else {
        "library"
    };
    let mut component = json!({
        "type": kind,
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
    });
    if package.source.is_some() {
        component["purl"] = reference(package).into();
    }
    if let Some(license) = &package.license {
        // As it was written before SPDX had operators.
        let expression = license.replace('/', " OR ");
        component["licenses"] = json!([{ "expression": expression }]);
    }
    component
}

fn reference(package: &Package) -> String {
    let version = package.version.replace('+', "%2B");
    format!("pkg:cargo/{}@{version}", package.name)
}
