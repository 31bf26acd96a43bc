//! A statement on paper: its pages are read back by the file format's grammar and not by our writer.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::*;

/// A text that is drawn, and where.
#[derive(Debug)]
struct Drawn {
    x: f32,
    y: f32,
    text: String,
}

/// The objects of a file by the table at its end: each is where the table says.
fn objects(file: &[u8]) -> BTreeMap<usize, &[u8]> {
    assert!(file.starts_with(b"%PDF-1.7") && file.ends_with(b"%%EOF"));
    // One character a byte, so that places are the same.
    let text: String = file
        .iter()
        .map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' })
        .collect();
    let start = text.rsplit_once("startxref").unwrap().1.trim();
    let start: usize = start.split_whitespace().next().unwrap().parse().unwrap();
    let mut lines = text[start..].lines();
    assert_eq!(lines.next(), Some("xref"));
    let n: usize = lines
        .next()
        .unwrap()
        .strip_prefix("0 ")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let entries: Vec<&str> = lines.take(n).collect();
    let in_use = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.trim_end().ends_with('n'));
    in_use
        .map(|(id, entry)| {
            let at: usize = entry[..10].parse().unwrap();
            let object = text[at..].strip_prefix(&format!("{id} 0 obj")).unwrap();
            (id, &file[at..at + object.find("endobj").unwrap()])
        })
        .collect()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// What is drawn on each page, in order. `\u{80}` and up are WinAnsi's codes.
fn pages(file: &[u8]) -> Vec<Vec<Drawn>> {
    let mut pages = Vec::new();
    for object in objects(file).values() {
        let Some(at) = find(object, b"stream\n") else { continue };
        let mut content = Vec::new();
        let data = &object[at + "stream\n".len()..];
        flate2::read::ZlibDecoder::new(data).read_to_end(&mut content).unwrap();
        pages.push(drawn(&content));
    }
    pages
}

/// The operators `Td` and `Tj` with what stands before them.
fn drawn(content: &[u8]) -> Vec<Drawn> {
    let (mut drawn, mut operands, mut place) = (Vec::new(), Vec::<String>::new(), (0.0, 0.0));
    let mut bytes = content.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'(' => {
                let (mut text, mut depth) = (String::new(), 1);
                while depth > 0 {
                    let byte = bytes.next().unwrap();
                    match byte {
                        b'\\' => match bytes.next().unwrap() {
                            octal @ b'0'..=b'7' => {
                                let rest = [bytes.next().unwrap(), bytes.next().unwrap()];
                                let code = [octal, rest[0], rest[1]]
                                    .iter()
                                    .fold(0_u32, |code, digit| code * 8 + u32::from(digit - b'0'));
                                text.push(char::from(u8::try_from(code).unwrap()));
                            }
                            escaped => text.push(char::from(escaped)),
                        },
                        b'(' => (depth, _) = (depth + 1, text.push('(')),
                        b')' if depth == 1 => depth = 0,
                        b')' => (depth, _) = (depth - 1, text.push(')')),
                        other => text.push(char::from(other)),
                    }
                }
                operands.push(text);
            }
            b'<' => {
                let mut digits = Vec::new();
                while let Some(digit) = bytes.next().filter(|digit| *digit != b'>') {
                    digits.push(digit);
                }
                let code = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
                operands.push(digits.chunks(2).map(|pair| char::from(code(pair))).collect());
            }
            byte if byte.is_ascii_whitespace() => {}
            byte => {
                let mut word = String::from(char::from(byte));
                while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace() && !b"(<".contains(byte)) {
                    word.push(char::from(byte));
                }
                let number = |at: usize| operands[at].parse::<f32>().unwrap();
                match word.as_str() {
                    "Td" => place = (number(0), number(1)),
                    "Tj" => drawn.push(Drawn {
                        x: place.0,
                        y: place.1,
                        text: operands[0].clone(),
                    }),
                    _ if word.starts_with(|first: char| first.is_ascii_digit() || "/-.".contains(first)) => {
                        operands.push(word);
                        continue;
                    }
                    _ => {}
                }
                operands.clear();
            }
        }
    }
    drawn
}

fn texts(pages: &[Vec<Drawn>]) -> Vec<&str> {
    pages.iter().flatten().map(|drawn| drawn.text.as_str()).collect()
}

/// Many teams, one of them with letters that the standard fonts lack.
async fn crowd() -> Fixture {
    let fixture = fixture().await;
    let mut books = Books {
        calls: Vec::new(),
        lines: Vec::new(),
    };
    let teams = (0..150)
        .map(|team| format!("team {team:03}"))
        .chain(["Zürich 研发".to_owned()]);
    for (n, team) in (100_u8..).zip(teams) {
        books.add(
            call("default", n, CallKind::Llm, NOW_NS - DAY_NS, &team),
            &[(Bucket::Output, 1_000, Some("1234.000000000000001"))],
        );
    }
    fixture.commit(Table::Calls, calls::to_batch(&books.calls)).await;
    fixture
        .commit(Table::Ledger, ledger_lines::to_batch(&books.lines))
        .await;
    fixture
}

#[tokio::test]
async fn a_statement_on_paper_has_pages_that_repeat_their_heads_and_adds_up() {
    let fixture = crowd().await;
    let artefact = made(&fixture, "chargeback", "pdf").await;
    assert_eq!(artefact.total, costs(&fixture).await);
    let pages = pages(&artefact.bytes);
    assert!(pages.len() > 5, "{} pages", pages.len());
    for (number, page) in (1..).zip(&pages) {
        let footer = format!("Page {number} of {}", pages.len());
        assert_eq!(page.iter().filter(|drawn| drawn.text == footer).count(), 1, "{footer}");
        for drawn in page {
            assert!(
                (0.0..842.0).contains(&drawn.x) && (20.0..595.0).contains(&drawn.y),
                "{drawn:?}"
            );
        }
        if let Some(heading) = page.iter().find(|drawn| drawn.text.ends_with("(continued)")) {
            let below = page.iter().filter(|drawn| drawn.y < heading.y);
            assert!(below.clone().any(|drawn| drawn.text == "team"), "{page:?}");
        }
    }
    // The amounts of the table of teams, row by row: what stands in the column of effective costs.
    let (mut sum, mut total, mut n_rows) = (FemtoUsd::ZERO, None, 0);
    let mut is_teams = false;
    let mut row: Option<f32> = None;
    for drawn in pages.iter().flatten() {
        match drawn.text.trim_end_matches(" (continued)") {
            "Teams" => is_teams = true,
            "Models" => is_teams = false,
            _ => {}
        }
        if !is_teams || row == Some(drawn.y) {
            continue;
        }
        let Some(cost) = FemtoUsd::parse(&drawn.text.replace(',', "")) else {
            continue;
        };
        if !drawn.text.contains('.') {
            continue;
        }
        row = Some(drawn.y);
        let is_total = pages
            .iter()
            .flatten()
            .any(|other| other.text == "Total" && other.y == drawn.y)
            && cost == artefact.total;
        if is_total {
            total = Some(cost);
            is_teams = false;
        } else {
            (sum, n_rows) = (sum + cost, n_rows + 1);
        }
    }
    assert_eq!((sum, total), (artefact.total, Some(artefact.total)));
    assert_eq!(n_rows, artefact.n_rows);
}

#[tokio::test]
async fn hostile_and_foreign_names_are_drawn_as_text_and_nothing_else() {
    let fixture = crowd().await;
    let file = made(&fixture, "chargeback", "pdf").await.bytes;
    let pages = pages(&file);
    let texts = texts(&pages);
    assert!(
        texts.iter().any(|text| text.starts_with("=HYPERLINK(\"http://x\"),")),
        "{texts:?}"
    );
    assert!(texts.iter().any(|text| text.contains("Z\u{fc}rich <U+7814 53D1>")));
    assert!(texts.iter().any(|text| text.starts_with("<U+\u{85}>: characters")));
    // Nothing that a reader would follow or run.
    for word in [
        &b"/URI"[..],
        b"/JavaScript",
        b"/JS",
        b"/Launch",
        b"/OpenAction",
        b"/AA",
        b"/EmbeddedFile",
    ] {
        assert!(find(&file, word).is_none());
    }
    assert!(
        !file.windows(3).any(|window| window == "研".as_bytes()),
        "no byte that the fonts read as another letter"
    );
    for by in ["", "team,project,environment,provider,model,server,tool"] {
        let request = ReportRequest::read("costs", "2026-11", Some("pdf"), by, Vec::new()).unwrap();
        let made = fixture
            .engine
            .report(&Principal::local(), &request, &|_, _| {})
            .await
            .unwrap();
        let on_paper = super::paper::pages(&made.bytes);
        assert!(on_paper.iter().flatten().all(|drawn| drawn.x < 806.0), "{by}");
    }
    let refused = ReportRequest::read("focus", "2026-11", Some("pdf"), "", Vec::new()).unwrap_err();
    assert!(
        refused.message().contains("formats: csv, parquet"),
        "{}",
        refused.message()
    );
}
