//! Embeds every file under `scenarios/` but the invalid ones: shipping a scenario is adding a file.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

const TIERS: [&str; 7] = ["foundation", "integration", "production", "extreme", "stress", "battle", "examples"];

fn main() -> io::Result<()> {
    let root = Path::new("../scenarios");
    let mut list = String::from("&[\n");
    // Cargo watches a directory with all that is in it.
    println!("cargo::rerun-if-changed={}", root.display());
    for tier in TIERS {
        let folder = root.join(tier);
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
        for path in paths {
            let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let file = format!("scenarios/{tier}/{name}.yaml");
            writeln!(
                list,
                "    Shipped {{ name: {name:?}, file: {file:?}, text: include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../{file}\")) }},"
            )
            .map_err(io::Error::other)?;
        }
    }
    list.push_str("]\n");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("shipped.rs"), list)
}
