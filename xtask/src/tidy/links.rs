//! Every relative link of a document leads to a file, and its `#anchor` to a heading.
//!
//! Addresses on the network are not looked up: the build needs none.

use super::File;

/// Fixtures are other people's documents, kept as they are.
const NOT_OURS: [&str; 1] = ["testkit/fixtures/"];

/// Checks every link of every document; `exists` tells whether a path from the root does.
pub fn check(documents: &[File], exists: impl Fn(&str) -> bool, offences: &mut Vec<String>) {
    for document in documents
        .iter()
        .filter(|document| !NOT_OURS.iter().any(|path| document.path.starts_with(path)))
    {
        for (line, target) in links(&document.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() {
                document.path.clone()
            } else {
                resolve(&document.path, path)
            };
            if !exists(&path) {
                offences.push(format!(
                    "{}:{line}: link to {target}, but there is no {path}",
                    document.path
                ));
            } else if let Some(found) = documents.iter().find(|other| other.path == path)
                && !anchor.is_empty()
                && !anchors(&found.text).any(|heading| heading == anchor)
            {
                offences.push(format!(
                    "{}:{line}: link to {target}, but {path} has no such heading",
                    document.path
                ));
            }
        }
    }
}

/// Targets of `[text](target)` with their line numbers, code blocks left out.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (line_number, line) in (1..).zip(text.lines()) {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, tail)) = after.split_once(')') else {
                break;
            };
            found.push((line_number, target));
            rest = tail;
        }
    }
    found
}

/// The anchors that the headings of a document have, as forges make them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let heading = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        heading
            .chars()
            .filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_')
            .collect()
    })
}

/// The path from the root of `target`, as seen from the document at `from`.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_a_file_and_a_heading() {
        let document = |path: &str, text: &str| File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let check = |link: &str, expected: usize| {
            let documents = [document("docs/a.md", link), document("README.md", "# Two words\n")];
            let mut offences = Vec::new();
            check(
                &documents,
                |path| ["docs/a.md", "README.md"].contains(&path),
                &mut offences,
            );
            assert_eq!(offences.len(), expected, "{link}: {offences:?}");
        };
        check("[a](../README.md)", 0);
        check("[a](../README.md#two-words)", 0);
        check("[a](../README.md#three)", 1);
        check("[a](b.md) and [b](c.md)", 2);
        check("[a](https://example.org/b.md)", 0);
        check("```\n[a](b.md)\n```", 0);
    }
}
