//! [`Document`]s as PDF: a statement to hand over on paper, A4 across, as many pages as it takes.
//!
//! ```text
//! title, facts ─► table: heading, head, rows … total ─► next table … ─► notes      footer: whose, page n of m
//!                        └─ a new page: heading (continued), head, rows …
//! ```
//!
//! Amounts are written with all their digits, and a column of them has its points below one another. Tables that are
//! wider than the page leave out what `COLUMNS_BY_RANK` names last, and say so; tables longer than [`ROWS_MAX`] rows
//! sum up the rest in one, so that they still add up. Texts are drawn, never run: the file has no links and no scripts.
//! Fonts are the standard ones, see [`font`].

mod font;

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use super::document::{Cell, Column, ColumnKind, Document, Section};
use super::write::labelled;
use crate::error::{Error, Result};
use font::{Face, Style, encoded};

/// A4 across, in points.
const PAGE_WIDTH: f32 = 842.0;
const PAGE_HEIGHT: f32 = 595.0;
const MARGIN: f32 = 36.0;
const ROOM: f32 = PAGE_WIDTH - 2.0 * MARGIN;
/// Lowest line of the text; the footer is below.
const BOTTOM: f32 = MARGIN + 16.0;
/// From line to line.
const LEADING: f32 = 10.0;
/// Between columns.
const GAP: f32 = 9.0;
/// Between the lines of two rows.
const ROW_GAP: f32 = 3.0;

const TITLE: Style = Style::bold(16.0);
const HEADING: Style = Style::bold(11.0);
const HEAD: Style = Style::bold(8.0);
const BODY: Style = Style::regular(8.0);
const TOTAL: Style = Style::bold(8.0);
const FOOTER: Style = Style::regular(7.0);

/// Rows of a table at most; the rest is summed up in one. 40 pages are more than anybody reads.
const ROWS_MAX: usize = 1_500;
/// Share of the page that names may take.
const NAMES_SHARE: f32 = 0.6;
/// Widest column of names.
const NAME_WIDTH_MAX: f32 = 220.0;
/// Lines of one name.
const NAME_LINES_MAX: usize = 3;
const FACT_LINES_MAX: usize = 3;
const HEAD_LINES_MAX: usize = 3;
const NOTE_LINES_MAX: usize = 8;

/// Columns of numbers, what a reader needs first; what is not named comes after them, as it stands in the table.
const COLUMNS_BY_RANK: [&str; 8] = [
    "effective_cost",
    "shared_cost",
    "total_cost",
    "calls",
    "tokens",
    "unpriced_tokens",
    "adjustments",
    "list_cost",
];

/// The file.
pub(super) fn pdf(document: &Document) -> Result<Vec<u8>> {
    let mut pages = Pages::new();
    begin(&mut pages, document);
    for section in &document.sections {
        table(&mut pages, section);
    }
    notes(&mut pages, document);
    let tenant = document.facts.iter().find(|(name, _)| *name == "tenant");
    let whose = tenant.map_or_else(String::new, |(_, tenant)| format!(" · tenant {tenant}"));
    write(pages, &document.title, &format!("{}{whose}", document.title))
        .map_err(|error| Error::internal("the PDF could not be written").with_source(error))
}

/// The pages so far. `y` is where the next line's top is, from the bottom of the page.
struct Pages {
    done: Vec<Content>,
    page: Content,
    y: f32,
    /// Headings, with page and height.
    bookmarks: Vec<(&'static str, usize, f32)>,
    lacks_letters: bool,
}

impl Pages {
    fn new() -> Self {
        Self {
            done: Vec::new(),
            page: Content::new(),
            y: PAGE_HEIGHT - MARGIN,
            bookmarks: Vec::new(),
            lacks_letters: false,
        }
    }

    fn turn(&mut self) {
        self.done.push(std::mem::replace(&mut self.page, Content::new()));
        self.y = PAGE_HEIGHT - MARGIN;
    }

    fn has_room(&self, height: f32) -> bool {
        self.y - height >= BOTTOM
    }

    fn encoded(&mut self, text: &str) -> Vec<u8> {
        self.lacks_letters |= !font::has_all(text);
        encoded(text)
    }

    /// Draws a line of text whose top is `down` below the next line's.
    fn draw(&mut self, x: f32, down: f32, style: Style, text: &[u8]) {
        if !text.is_empty() {
            draw(&mut self.page, x, self.y - down - style.size, style, text);
        }
    }

    fn rule(&mut self, down: f32, gray: f32) {
        let y = self.y - down;
        self.page.set_stroke_gray(gray).set_line_width(0.5);
        self.page.move_to(MARGIN, y).line_to(PAGE_WIDTH - MARGIN, y).stroke();
    }
}

fn draw(page: &mut Content, x: f32, y: f32, style: Style, text: &[u8]) {
    page.begin_text();
    page.set_font(name_of(style.face), style.size)
        .next_line(x, y)
        .show(Str(text));
    page.end_text();
}

fn name_of(face: Face) -> Name<'static> {
    match face {
        Face::Regular => Name(b"F1"),
        Face::Bold => Name(b"F2"),
    }
}

/// Title and facts, in two columns.
fn begin(pages: &mut Pages, document: &Document) {
    let title = pages.encoded(&document.title);
    for line in TITLE.lines(&title, ROOM, 2) {
        pages.draw(MARGIN, 0.0, TITLE, &line);
        pages.y -= TITLE.size * 1.4;
    }
    pages.y -= 4.0;
    let half = ROOM / 2.0;
    let names = document.facts.iter().map(|(name, _)| HEAD.width(&encoded(name)));
    let indent = names.fold(0.0, f32::max) + GAP;
    for pair in document.facts.chunks(2) {
        let mut n_lines = 1;
        for (x, (name, value)) in [MARGIN, MARGIN + half].into_iter().zip(pair) {
            let (name, value) = (pages.encoded(name), pages.encoded(value));
            pages.draw(x, 0.0, HEAD, &name);
            let lines = BODY.lines(&value, half - indent - GAP, FACT_LINES_MAX);
            n_lines = n_lines.max(lines.len());
            for (down, line) in downs().zip(&lines) {
                pages.draw(x + indent, down, BODY, line);
            }
        }
        pages.y -= height_of(n_lines);
    }
}

/// A column as it is drawn.
struct Shown {
    is_number: bool,
    x: f32,
    width: f32,
    head: Vec<Vec<u8>>,
    /// One for each row, the total last; more than one line only of a name.
    cells: Vec<Vec<Vec<u8>>>,
}

fn table(pages: &mut Pages, section: &Section) {
    let (rest, total) = (rest_of(section), section.total.as_deref().map(labelled));
    let rows: Vec<&[Cell]> = section.rows.iter().take(ROWS_MAX).map(Vec::as_slice).collect();
    let rows: Vec<&[Cell]> = rows
        .into_iter()
        .chain(rest.as_deref())
        .chain(total.as_deref())
        .collect();
    let (columns, left_out) = shown(pages, section, &rows);
    let row_height = |row: usize| {
        let lines = columns.iter().filter_map(|column| column.cells.get(row));
        height_of(lines.map(Vec::len).max().unwrap_or(1))
    };
    let n_head_lines = columns.iter().map(|column| column.head.len()).max().unwrap_or(1);
    let head_height = height_of(n_head_lines) + 2.0;
    let note = (!left_out.is_empty()).then(|| {
        encoded(&format!(
            "In the other formats, too wide for the page: {}.",
            left_out.join(", ")
        ))
    });
    let note = note.map_or_else(Vec::new, |note| FOOTER.lines(&note, ROOM, 2));
    let above = 16.0 + HEADING.size * 1.5 + LEADING * rows_f32(note.len());

    if !pages.has_room(above + head_height + row_height(0) + row_height(1)) {
        pages.turn();
    } else {
        pages.y -= 16.0;
    }
    pages.bookmarks.push((section.title, pages.done.len(), pages.y));
    heading(pages, section.title);
    for line in note {
        pages.draw(MARGIN, 0.0, FOOTER, &line);
        pages.y -= LEADING + 1.0;
    }
    head(pages, &columns, head_height);
    if rows.is_empty() || section.rows.is_empty() {
        pages.draw(MARGIN, 0.0, BODY, b"nothing in this period");
        pages.y -= height_of(1);
    }
    for row in 0..rows.len() {
        let height = row_height(row);
        // A total is never alone on its page.
        let is_before_total = total.is_some() && row + 2 == rows.len();
        let with_total = if is_before_total { row_height(row + 1) } else { 0.0 };
        if !pages.has_room(height + with_total) {
            pages.turn();
            heading(pages, &format!("{} (continued)", section.title));
            head(pages, &columns, head_height);
        }
        let is_total = total.is_some() && row + 1 == rows.len();
        let style = if is_total { TOTAL } else { BODY };
        if is_total {
            pages.rule(-1.0, 0.2);
        }
        for column in &columns {
            for (down, line) in downs().zip(column.cells.get(row).into_iter().flatten()) {
                let indent = if column.is_number {
                    column.width - style.width(line)
                } else {
                    0.0
                };
                pages.draw(column.x + indent, down, style, line);
            }
        }
        if !is_total {
            pages.rule(height - ROW_GAP / 2.0, 0.85);
        }
        pages.y -= height;
    }
}

fn heading(pages: &mut Pages, text: &str) {
    let text = pages.encoded(text);
    pages.draw(MARGIN, 0.0, HEADING, &text);
    pages.y -= HEADING.size * 1.5;
}

fn head(pages: &mut Pages, columns: &[Shown], height: f32) {
    pages.page.save_state().set_fill_gray(0.92);
    let (width, bottom) = (ROOM + 4.0, pages.y - height + 2.0);
    pages.page.rect(MARGIN - 2.0, bottom, width, height).fill_nonzero();
    pages.page.restore_state();
    for column in columns {
        for (down, line) in downs().zip(&column.head) {
            let indent = if column.is_number {
                column.width - HEAD.width(line)
            } else {
                0.0
            };
            pages.draw(column.x + indent, down, HEAD, line);
        }
    }
    pages.y -= height + 1.0;
}

/// What is beyond [`ROWS_MAX`], as one row.
fn rest_of(section: &Section) -> Option<Vec<Cell>> {
    let rest = section.rows.get(ROWS_MAX..).filter(|rest| !rest.is_empty())?;
    let rest = Section {
        rows: rest.to_vec(),
        total: None,
        columns: section.columns.clone(),
        ..*section
    };
    let mut sum = rest.sum();
    if let Some(first) = sum.first_mut().filter(|cell| **cell == Cell::Empty) {
        *first = Cell::Text(format!("({} more rows, in the other formats)", rest.rows.len()));
    }
    Some(sum)
}

/// The columns that the page has room for, as they are drawn, and the names of the others. Numbers that no row has
/// are in neither.
fn shown(pages: &mut Pages, section: &Section, rows: &[&[Cell]]) -> (Vec<Shown>, Vec<&'static str>) {
    let n_names = section
        .columns
        .iter()
        .filter(|column| column.kind == ColumnKind::Text)
        .count();
    let share = ROOM * NAMES_SHARE / rows_f32(n_names.max(1)) - GAP;
    let name_width = NAME_WIDTH_MAX.min(share);
    let mut made: Vec<Option<Shown>> = Vec::with_capacity(section.columns.len());
    let is_blank = |at: usize| {
        section
            .rows
            .iter()
            .all(|row| row.get(at).is_none_or(|cell| *cell == Cell::Empty))
    };
    for (at, column) in section.columns.iter().enumerate() {
        made.push((column.kind != ColumnKind::Rate).then(|| one(pages, at, column, rows, name_width)));
    }
    let mut order: Vec<usize> = (0..section.columns.len()).collect();
    order.sort_by_key(|at| {
        let column = section.columns.get(*at);
        let rank = column.and_then(|column| COLUMNS_BY_RANK.iter().position(|name| *name == column.name));
        let is_number = column.is_some_and(|column| column.kind != ColumnKind::Text);
        (is_number, rank.unwrap_or(COLUMNS_BY_RANK.len()), *at)
    });
    let (mut taken, mut used) = (vec![false; made.len()], 0.0);
    for at in order {
        let Some(Some(column)) = made.get(at) else { continue };
        let fits = used + column.width <= ROOM && !is_blank(at);
        if fits || !column.is_number {
            used += column.width + GAP;
            if let Some(taken) = taken.get_mut(at) {
                *taken = true;
            }
        }
    }
    let (mut columns, mut left_out, mut x) = (Vec::new(), Vec::new(), MARGIN);
    for (at, ((column, made), is_taken)) in section.columns.iter().zip(made).zip(taken).enumerate() {
        match made.filter(|_| is_taken) {
            Some(mut shown) => {
                shown.x = x;
                x += shown.width + GAP;
                columns.push(shown);
            }
            None if is_blank(at) => {}
            None => left_out.push(column.name),
        }
    }
    (columns, left_out)
}

fn one(pages: &mut Pages, at: usize, column: &Column, rows: &[&[Cell]], name_width: f32) -> Shown {
    let is_number = column.kind != ColumnKind::Text;
    let cells = || rows.iter().map(|row| row.get(at).unwrap_or(&Cell::Empty));
    let decimals = cells().map(decimals_of).max().unwrap_or(0).max(2);
    let texts: Vec<Vec<u8>> = cells().map(|cell| pages.encoded(&text_of(cell, decimals))).collect();
    let unit = if column.kind == ColumnKind::Money { " USD" } else { "" };
    let head = encoded(&format!("{}{unit}", column.name.replace('_', " ")));
    // A total is bold, and wider than the rows.
    let widths = texts.iter().map(|text| TOTAL.width(text));
    let words = head.split(|code| *code == b' ').map(|word| HEAD.width(word));
    let widest = widths.chain(words).fold(0.0, f32::max);
    let width = if is_number { widest } else { widest.min(name_width) } + 0.1;
    let lines = |text: Vec<u8>| match is_number {
        true => vec![text],
        false => TOTAL.lines(&text, width, NAME_LINES_MAX),
    };
    Shown {
        is_number,
        x: MARGIN,
        width,
        head: HEAD.lines(&head, width, HEAD_LINES_MAX),
        cells: texts.into_iter().map(lines).collect(),
    }
}

fn decimals_of(cell: &Cell) -> usize {
    match cell {
        Cell::Money(_) => cell.to_text().split_once('.').map_or(0, |(_, decimals)| decimals.len()),
        _ => 0,
    }
}

/// A cell with its digits in groups of three; amounts with this many decimals, which are all that they have.
fn text_of(cell: &Cell, decimals: usize) -> String {
    let text = cell.to_text();
    match cell {
        Cell::Empty | Cell::Text(_) => text,
        Cell::Count(_) => grouped(&text),
        Cell::Money(_) => {
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            format!("{}.{fraction:0<decimals$}", grouped(whole))
        }
    }
}

fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let mut grouped = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn notes(pages: &mut Pages, document: &Document) {
    let mut notes: Vec<Vec<u8>> = document.notes.iter().map(|note| pages.encoded(note)).collect();
    if pages.lacks_letters {
        notes.push(encoded(
            "<U+…>: characters that the fonts of this file do not have, by their numbers in Unicode; the other formats have them",
        ));
    }
    if notes.is_empty() {
        return;
    }
    let blocks: Vec<Vec<Vec<u8>>> = notes
        .iter()
        .map(|note| BODY.lines(note, ROOM - GAP, NOTE_LINES_MAX))
        .collect();
    let first = blocks.first().map_or(1, Vec::len);
    if !pages.has_room(16.0 + HEADING.size * 1.5 + height_of(first)) {
        pages.turn();
    } else {
        pages.y -= 16.0;
    }
    pages.bookmarks.push(("Notes", pages.done.len(), pages.y));
    heading(pages, "Notes");
    for block in blocks {
        if !pages.has_room(height_of(block.len())) {
            pages.turn();
        }
        pages.draw(MARGIN, 0.0, BODY, &encoded("•"));
        for (down, line) in downs().zip(&block) {
            pages.draw(MARGIN + GAP, down, BODY, line);
        }
        pages.y -= height_of(block.len());
    }
}

/// Distances of lines from the top of the first.
fn downs() -> impl Iterator<Item = f32> {
    (0_u8..).map(|line| f32::from(line) * LEADING)
}

fn rows_f32(rows: usize) -> f32 {
    f32::from(u16::try_from(rows).unwrap_or(u16::MAX))
}

fn height_of(n_lines: usize) -> f32 {
    rows_f32(n_lines) * LEADING + ROW_GAP
}

/// Puts the pages together, each with its footer.
fn write(mut pages: Pages, title: &str, footer: &str) -> std::io::Result<Vec<u8>> {
    pages.turn();
    let n_pages = i32::try_from(pages.done.len()).unwrap_or(i32::MAX);
    let mut next = Ref::new(1);
    let [catalog, tree, regular, bold, info, outline] = std::array::from_fn(|_| next.bump());
    let ids: Vec<[Ref; 2]> = pages.done.iter().map(|_| [next.bump(), next.bump()]).collect();
    let items: Vec<Ref> = pages.bookmarks.iter().map(|_| next.bump()).collect();

    let mut pdf = Pdf::new();
    pdf.set_version(1, 7);
    let mut root = pdf.catalog(catalog);
    root.pages(tree).outlines(outline).lang(TextStr("en"));
    root.viewer_preferences().display_doc_title(true);
    root.finish();
    pdf.document_info(info)
        .title(TextStr(title))
        .producer(TextStr(concat!("spanledger ", env!("CARGO_PKG_VERSION"))));
    pdf.pages(tree).kids(ids.iter().map(|[page, _]| *page)).count(n_pages);
    for (id, name) in [(regular, "Helvetica"), (bold, "Helvetica-Bold")] {
        let mut font = pdf.type1_font(id);
        font.base_font(Name(name.as_bytes()))
            .encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    let whose = FOOTER.lines(&encoded(footer), ROOM - 80.0, 1);
    for (number, (mut drawn, [id, content])) in (1..).zip(pages.done.into_iter().zip(&ids)) {
        for line in &whose {
            draw(&mut drawn, MARGIN, MARGIN - 8.0, FOOTER, line);
        }
        let number = encoded(&format!("Page {number} of {n_pages}"));
        let x = PAGE_WIDTH - MARGIN - FOOTER.width(&number);
        draw(&mut drawn, x, MARGIN - 8.0, FOOTER, &number);
        let mut deflated = ZlibEncoder::new(Vec::new(), Compression::default());
        deflated.write_all(&drawn.finish())?;
        let deflated = deflated.finish()?;
        pdf.stream(*content, &deflated).filter(Filter::FlateDecode);
        let mut page = pdf.page(*id);
        page.parent(tree).contents(*content);
        page.media_box(Rect::new(0.0, 0.0, PAGE_WIDTH, PAGE_HEIGHT));
        let mut resources = page.resources();
        let mut fonts = resources.fonts();
        fonts
            .pair(name_of(Face::Regular), regular)
            .pair(name_of(Face::Bold), bold);
    }
    let mut all = pdf.outline(outline);
    if let (Some(first), Some(last)) = (items.first(), items.last()) {
        all.first(*first)
            .last(*last)
            .count(i32::try_from(items.len()).unwrap_or(i32::MAX));
    }
    all.finish();
    for (at, (heading, page, y)) in pages.bookmarks.iter().enumerate() {
        let Some((id, [page, _])) = items.get(at).zip(ids.get(*page)) else {
            continue;
        };
        let mut item = pdf.outline_item(*id);
        item.title(TextStr(heading)).parent(outline);
        if let Some(before) = at.checked_sub(1).and_then(|at| items.get(at)) {
            item.prev(*before);
        }
        if let Some(after) = items.get(at + 1) {
            item.next(*after);
        }
        item.dest().page(*page).xyz(MARGIN, *y, None);
    }
    Ok(pdf.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_keep_their_digits_and_their_points_stand_below_one_another() {
        let money = |text| Cell::Money(spanledger_model::FemtoUsd::parse(text).unwrap_or_default());
        for (cell, text) in [
            (money("1234567.5"), "1,234,567.5000"),
            (money("-1234"), "-1,234.0000"),
            (money("0.0001"), "0.0001"),
            (Cell::Count(-1_000), "-1,000"),
            (Cell::Count(999), "999"),
            (Cell::Empty, ""),
        ] {
            assert_eq!(text_of(&cell, 4), text);
        }
        assert_eq!(decimals_of(&money("0.000000000000001")), 15);
    }

    #[test]
    fn a_table_that_is_too_long_still_adds_up() {
        let column = |name, kind| Column { name, kind };
        let mut section = Section {
            id: "teams",
            title: "Teams",
            columns: vec![column("team", ColumnKind::Text), column("calls", ColumnKind::Count)],
            rows: (0..1_700).map(|row| vec![Cell::text("a"), Cell::Count(row)]).collect(),
            total: None,
        };
        section.total = Some(section.sum());
        let rest = rest_of(&section);
        let cells = rest.as_deref().unwrap_or_default();
        assert_eq!(cells[0].to_text(), "(200 more rows, in the other formats)");
        assert_eq!(cells[1], Cell::Count((1_500..1_700).sum()));
        section.rows.truncate(1_500);
        assert_eq!(rest_of(&section), None);
    }
}
