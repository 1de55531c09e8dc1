//! The graph of a crate's top-level modules, computed from its sources: which module names which, and where.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::source_files::SourceFile;

/// An import: where one module first names another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Import {
    pub(crate) importer: String,
    pub(crate) imported: String,
    /// File and line.
    pub(crate) location: String,
}

/// The first import of each pair of modules.
#[derive(Debug, Default)]
pub(crate) struct ModuleGraph {
    pub(crate) modules: BTreeSet<String>,
    imports: BTreeMap<String, BTreeMap<String, Import>>,
    /// Types and constants that are named as items of the root, such as `crate::Config`, with file and line.
    pub(crate) root_items: Vec<String>,
}

impl ModuleGraph {
    /// `folder` contains the crate's root, such as `src`. `lib.rs` and `main.rs` are not modules.
    pub(crate) fn new(folder: &str, files: &[SourceFile]) -> Self {
        let paths: Vec<Vec<&str>> = files
            .iter()
            .map(|file| {
                let path = file.path.strip_prefix(folder).unwrap().trim_start_matches('/');
                path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect()
            })
            .collect();
        let modules: BTreeSet<String> = paths.iter().map(|path| path[0].to_owned()).collect();
        let mut graph = Self { modules, ..Self::default() };
        graph.modules.retain(|module| !["lib", "main"].contains(&module.as_str()));
        for (file, path) in files.iter().zip(&paths) {
            if graph.modules.contains(path[0]) {
                graph.add_file(file, path[0], path.len());
            }
        }
        graph
    }

    fn add_file(&mut self, file: &SourceFile, importer: &str, depth: usize) {
        let code = without_tests_and_comments(&file.text);
        for (offset, imported) in paths_from_the_root(&code, depth) {
            let line = code[..offset].matches('\n').count() + 1;
            let location = format!("{}:{line}", file.path);
            if imported.starts_with(char::is_uppercase) {
                self.root_items.push(format!("{imported} ({location})"));
            }
            if imported == importer || !self.modules.contains(&imported) {
                continue;
            }
            let imports = self.imports.entry(importer.to_owned()).or_default();
            imports.entry(imported.clone()).or_insert_with(|| Import {
                importer: importer.to_owned(),
                imported,
                location,
            });
        }
    }

    pub(crate) fn imports(&self) -> impl Iterator<Item = &Import> {
        self.imports.values().flat_map(BTreeMap::values)
    }

    /// A shortest cycle.
    pub(crate) fn cycle(&self) -> Option<Vec<Import>> {
        let cycles = self.imports.keys().filter_map(|module| self.cycle_through(module));
        cycles.min_by_key(Vec::len)
    }

    /// A shortest cycle that begins and ends at `start`, by breadth-first search.
    fn cycle_through(&self, start: &str) -> Option<Vec<Import>> {
        let mut reached_by: BTreeMap<&str, &Import> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(module) = queue.pop_front() {
            for (imported, import) in self.imports.get(module).into_iter().flatten() {
                if !reached_by.contains_key(imported.as_str()) {
                    reached_by.insert(imported, import);
                    queue.push_back(imported);
                }
            }
        }
        let mut cycle = vec![(*reached_by.get(start)?).clone()];
        while cycle[cycle.len() - 1].importer != start {
            let importer = &cycle[cycle.len() - 1].importer;
            cycle.push(reached_by[importer.as_str()].clone());
        }
        cycle.reverse();
        Some(cycle)
    }
}

/// The text with comments and modules of tests replaced by nothing, line by line, so that line numbers stay.
pub(crate) fn without_tests_and_comments(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut code = String::new();
    let mut is_in_tests = false;
    for (index, line) in lines.iter().enumerate() {
        let next = lines.get(index + 1).copied().unwrap_or_default();
        if *line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{') {
            is_in_tests = true;
        }
        if !is_in_tests {
            // `//` after a colon belongs to a URL.
            let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
            code.push_str(comment.map_or(line, |(at, _)| &line[..at]));
        }
        code.push('\n');
        is_in_tests &= *line != "}";
    }
    code
}

/// The first segment of each path that begins at the crate's root, with its offset: `crate::x`, `crate::{x::y, z}`, and
/// `super::x` with as many `super` as the file's module is deep.
fn paths_from_the_root(code: &str, depth: usize) -> Vec<(usize, String)> {
    let from_super = "super::".repeat(depth);
    let mut found = Vec::new();
    for root in ["crate::", from_super.as_str()] {
        for (at, _) in code.match_indices(root) {
            let is_whole = !code[..at].ends_with(|end: char| is_word(end) || end == ':');
            if is_whole {
                first_segments(code, at + root.len(), &mut found);
            }
        }
    }
    found
}

/// The first segment of a path at `start`, or, where a braced list begins there, of each of its items.
fn first_segments(code: &str, start: usize, found: &mut Vec<(usize, String)>) {
    let rest = &code[start..];
    let Some(list) = rest.strip_prefix('{') else {
        let name: String = rest.chars().take_while(|character| is_word(*character)).collect();
        found.push((start, name));
        return;
    };
    let mut depth = 0;
    let mut is_item_start = true;
    for (at, character) in list.char_indices() {
        match character {
            '}' if depth == 0 => return,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => is_item_start = true,
            _ if is_item_start && is_word(character) => {
                let item = list[at..].chars().take_while(|character| is_word(*character));
                found.push((start + 1 + at, item.collect()));
                is_item_start = false;
            }
            _ => (),
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(files: &[(&str, &str)]) -> ModuleGraph {
        let files: Vec<SourceFile> = files
            .iter()
            .map(|(path, text)| SourceFile {
                path: format!("src/{path}"),
                text: (*text).to_owned(),
            })
            .collect();
        ModuleGraph::new("src", &files)
    }

    fn imports(files: &[(&str, &str)]) -> Vec<String> {
        let graph = graph(files);
        let show = |import: &Import| {
            format!("{} -> {} ({})", import.importer, import.imported, import.location)
        };
        graph.imports().map(show).collect()
    }

    const LEAVES: [(&str, &str); 3] = [("a.rs", ""), ("b/mod.rs", ""), ("b/inner.rs", "")];

    #[test]
    fn a_module_is_a_file_or_a_folder() {
        let modules = graph(&[&LEAVES[..], &[("lib.rs", "mod a;"), ("main.rs", "")]].concat());
        assert_eq!(modules.modules, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn imports_are_found_in_all_forms() {
        for text in [
            "use crate::a;",
            "use crate::a::{Thing, Other};",
            "use crate::{\n    c::{a, d},\n    a::Thing,\n};",
            "use crate::{a, c};",
            "fn f() -> crate::a::Thing {}",
            "pub(in crate::a) fn f() {}",
        ] {
            for path in ["x.rs", "x/mod.rs", "x/deep/er.rs"] {
                let line = if text.contains("a::Thing,\n") { 3 } else { 1 };
                let expected = format!("x -> a (src/{path}:{line})");
                assert_eq!(imports(&[LEAVES[0], (path, text)]), [expected], "{text}");
            }
        }
    }

    #[test]
    fn super_is_the_root_as_deep_as_the_file() {
        let text = "use super::{a, c};";
        assert_eq!(imports(&[LEAVES[0], ("x.rs", text)]), ["x -> a (src/x.rs:1)"]);
        assert_eq!(imports(&[LEAVES[0], ("x/mod.rs", text)]), ["x -> a (src/x/mod.rs:1)"]);
        assert!(imports(&[LEAVES[0], ("x/y.rs", text)]).is_empty());
        let text = "use super::super::a;";
        assert_eq!(imports(&[LEAVES[0], ("x/y.rs", text)]), ["x -> a (src/x/y.rs:1)"]);
        assert!(imports(&[LEAVES[0], ("x.rs", text)]).is_empty());
        assert!(imports(&[LEAVES[0], ("x/y/z.rs", text)]).is_empty());
    }

    #[test]
    fn comments_tests_and_other_paths_are_no_imports() {
        for text in [
            "//! See [`crate::a`].",
            "/// See [`crate::a`].",
            "let url = \"http://x\"; // crate::a",
            "#[cfg(test)]\nmod tests {\n    use crate::a;\n}",
            "use crate::x::a;",
            "use crate::{x::{a}, Thing};",
            "use other::crate::a;",
            "use self::a;",
        ] {
            assert!(imports(&[LEAVES[0], ("x.rs", text)]).is_empty(), "{text}");
        }
        let after_tests = "#[cfg(test)]\nmod tests {\n}\nuse crate::a;";
        assert_eq!(imports(&[LEAVES[0], ("x.rs", after_tests)]), ["x -> a (src/x.rs:4)"]);
    }

    #[test]
    fn items_of_the_root_are_listed() {
        let text = "use crate::{\n    x::Thing,\n    Config,\n};\nuse super::X;";
        assert_eq!(graph(&[("x/y.rs", text)]).root_items, ["Config (src/x/y.rs:3)"]);
    }

    #[test]
    fn a_graph_without_a_cycle_has_none() {
        let files =
            [("a.rs", "use crate::{b, c};"), ("b.rs", "use crate::c;"), ("c.rs", "use crate::c;")];
        assert_eq!(graph(&files).cycle(), None);
    }

    #[test]
    fn a_shortest_cycle_is_found_with_the_location_of_each_import() {
        let files = [
            ("a.rs", "use crate::b;"),
            ("b.rs", "\nuse crate::c;"),
            ("c.rs", "use crate::d;"),
            ("d/mod.rs", "use crate::e;"),
            ("d/x.rs", "\n\nuse crate::{b, e};"),
            ("e.rs", "use crate::a;"),
        ];
        let cycle = graph(&files).cycle().unwrap();
        let cycle: Vec<_> = cycle.iter().map(|import| import.location.as_str()).collect();
        assert_eq!(cycle, ["src/b.rs:2", "src/c.rs:1", "src/d/x.rs:3"]);
    }
}
