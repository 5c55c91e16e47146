//! No circles of imports between the files of a crate, except between a module and those below it.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Source, product, unshipped};

/// A module, by its segments from the crate on.
type Module = Vec<String>;

/// The modules of one crate, and where the names that they export are defined.
struct Crate<'a> {
    files: BTreeMap<Module, &'a Source>,
    exports: BTreeMap<(Module, String), Vec<String>>,
}

impl<'a> Crate<'a> {
    fn new(sources: &'a [Source]) -> Self {
        let files: BTreeMap<_, _> = sources.iter().map(|s| (s.module(), s)).collect();
        let mut all = Crate { files, exports: BTreeMap::new() };
        let mut exports = BTreeMap::new();
        for (module, source) in &all.files {
            for used in &source.uses {
                if let (Some(name), Some(path)) =
                    (&used.exported_as, all.path(module, &used.segments))
                {
                    exports.insert((module.clone(), name.clone()), path);
                }
            }
        }
        all.exports = exports;
        all
    }

    /// Returns a path within the crate, without `crate`; `None` if it is in another crate.
    fn path(&self, module: &Module, segments: &[String]) -> Option<Vec<String>> {
        let (first, rest) = segments.split_first()?;
        if first == "crate" {
            return Some(rest.to_vec());
        }
        let child = [module.as_slice(), std::slice::from_ref(first)].concat();
        self.files.contains_key(&child).then(|| [module.as_slice(), segments].concat())
    }

    /// Returns the module that defines what a path names.
    fn defining(&self, path: &[String]) -> Option<Module> {
        let mut path = path.to_vec();
        // Exports of exports: a few at most.
        for _ in 0..8 {
            let length = (0..=path.len())
                .rev()
                .find(|n| path.get(..*n).is_some_and(|m| self.files.contains_key(m)))?;
            let (module, rest) = path.split_at(length);
            let exported =
                rest.first().and_then(|name| self.exports.get(&(module.to_vec(), name.clone())));
            match exported {
                Some(elsewhere) => path = [elsewhere, rest.get(1..).unwrap_or_default()].concat(),
                None => return Some(module.to_vec()),
            }
        }
        None
    }

    /// Returns which modules import which, apart from those above and below them.
    fn imports(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let imports = |(module, source): (&Module, &&Source)| {
            let paths = source.uses.iter().filter_map(|used| self.path(module, &used.segments));
            let others = paths.filter_map(|path| self.defining(&path));
            others
                .filter(|other| !module.starts_with(other) && !other.starts_with(module))
                .collect()
        };
        self.files.iter().map(|file| (file.0, imports(file))).collect()
    }
}

/// Returns the imports that close circles, or lie between two circles.
fn circles(sources: &[Source]) -> Vec<String> {
    let all = Crate::new(sources);
    let mut imports = all.imports();
    loop {
        let imported: BTreeSet<Module> = imports.values().flatten().cloned().collect();
        let open: Vec<Module> = imports
            .iter()
            .filter(|(module, others)| others.is_empty() || !imported.contains(**module))
            .map(|(module, _)| (*module).clone())
            .collect();
        if open.is_empty() {
            break;
        }
        imports.retain(|module, _| !open.contains(module));
        for others in imports.values_mut() {
            others.retain(|other| !open.contains(other));
        }
    }
    let name = |module: &Module| all.files.get(module).map_or_else(String::new, |s| s.name());
    let lines = imports.iter().flat_map(|(module, others)| {
        others.iter().map(|other| format!("{} imports {}", name(module), name(other)))
    });
    lines.collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let of = |folder: &'static str| unshipped().into_iter().filter(move |s| s.folder == folder);
    for sources in [product(), of("lab/src").collect(), of("lab/forge/src").collect()] {
        let found = circles(&sources);
        let advice = "move what both need to a file of its own";
        assert!(found.is_empty(), "circles; {advice}:\n{}", found.join("\n"));
    }
}

#[test]
fn the_check_of_circles_finds_what_it_is_for() {
    let lines = |files: &[(&str, &str)]| {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::new(path, text)).collect();
        circles(&sources).len()
    };
    let exports = ("a/mod.rs", "mod b; mod c; pub use b::B; pub(crate) use c::C as D;");
    let c = ("a/c.rs", "use super::B;");
    // Through names that the module above exports.
    assert_eq!(lines(&[exports, ("a/b.rs", "use crate::a::D;"), c]), 2);
    assert_eq!(lines(&[exports, ("a/b.rs", "fn f() { super::c::g() }"), c]), 2);
    // A module and those below it may know each other.
    assert_eq!(lines(&[exports, ("a/b.rs", "use super::X;"), c]), 0);
    assert_eq!(lines(&[("a.rs", "mod b; use b::B;"), ("a/b.rs", "use super::A;")]), 0);
    // Tests may.
    let tested = "#[cfg(test)]\nmod tests { use crate::a::D; }";
    assert_eq!(lines(&[exports, ("a/b.rs", tested), c]), 0);
}
