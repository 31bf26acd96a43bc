//! Text as the standard fonts of PDF draw it: bytes of WinAnsi, their widths, lines that fit.
//!
//! Every reader of PDF has Helvetica, so that no font is embedded. It has the letters of Western Europe; every other
//! character stands in the text by its number, `<U+7814 53D1>`, and never as nothing or as a letter that it is not.

/// First code with a width in [`REGULAR`] and [`BOLD`].
const FIRST: u8 = 0x20;
/// What stands for a text that goes on: an ellipsis.
const ELLIPSIS: u8 = 0x85;
/// Characters after which a name may go on in the next line.
const BREAKS: &[u8] = b" -/_.:,@";

/// WinAnsi's codes from 0x80 on; those without a character are `\0`.
const HIGH: [char; 32] = [
    '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', '\0', '‘', '’', '“', '”', '•',
    '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
];

/// Widths of Helvetica in thousandths of its size, from Adobe's metrics of the standard fonts (Helvetica.afm).
#[rustfmt::skip]
const REGULAR: [u16; 224] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556,
    1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778,
    667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556,
    333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556,
    556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584, 350,
    556, 350, 222, 556, 333, 1000, 556, 556, 333, 1000, 667, 333, 1000, 350, 611, 350,
    350, 222, 222, 333, 333, 350, 556, 1000, 333, 1000, 500, 333, 944, 350, 500, 667,
    278, 333, 556, 556, 556, 556, 260, 556, 333, 737, 370, 556, 584, 333, 737, 333,
    400, 584, 333, 333, 333, 556, 537, 278, 333, 333, 365, 556, 834, 834, 834, 611,
    667, 667, 667, 667, 667, 667, 1000, 722, 667, 667, 667, 667, 278, 278, 278, 278,
    722, 722, 778, 778, 778, 778, 778, 584, 778, 722, 722, 722, 722, 667, 667, 611,
    556, 556, 556, 556, 556, 556, 889, 500, 556, 556, 556, 556, 278, 278, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 584, 611, 556, 556, 556, 556, 500, 556, 500,
];

/// Widths of Helvetica-Bold (Helvetica-Bold.afm).
#[rustfmt::skip]
const BOLD: [u16; 224] = [
    278, 333, 474, 556, 556, 889, 722, 238, 333, 333, 389, 584, 278, 333, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 333, 333, 584, 584, 584, 611,
    975, 722, 722, 722, 722, 667, 611, 778, 722, 278, 556, 722, 611, 833, 722, 778,
    667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 333, 278, 333, 584, 556,
    333, 556, 611, 556, 611, 556, 333, 611, 611, 278, 278, 556, 278, 889, 611, 611,
    611, 611, 389, 556, 333, 611, 556, 778, 556, 556, 500, 389, 280, 389, 584, 350,
    556, 350, 278, 556, 500, 1000, 556, 556, 333, 1000, 667, 333, 1000, 350, 611, 350,
    350, 278, 278, 500, 500, 350, 556, 1000, 333, 1000, 556, 333, 944, 350, 500, 667,
    278, 333, 556, 556, 556, 556, 280, 556, 333, 737, 370, 556, 584, 333, 737, 333,
    400, 584, 333, 333, 333, 611, 556, 278, 333, 333, 365, 556, 834, 834, 834, 611,
    722, 722, 722, 722, 722, 722, 1000, 722, 667, 667, 667, 667, 278, 278, 278, 278,
    722, 722, 778, 778, 778, 778, 778, 584, 778, 722, 722, 722, 722, 667, 667, 611,
    556, 556, 556, 556, 556, 556, 889, 556, 556, 556, 556, 556, 278, 278, 278, 278,
    611, 611, 611, 611, 611, 611, 611, 584, 611, 611, 611, 611, 611, 556, 611, 556,
];

/// One of the two fonts of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    /// Helvetica.
    Regular,
    /// Helvetica-Bold.
    Bold,
}

/// A font in a size, in points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Style {
    pub(super) face: Face,
    pub(super) size: f32,
}

impl Style {
    pub(super) const fn regular(size: f32) -> Self {
        Self {
            face: Face::Regular,
            size,
        }
    }

    pub(super) const fn bold(size: f32) -> Self {
        Self { face: Face::Bold, size }
    }

    /// How wide encoded text is, in points.
    pub(super) fn width(self, text: &[u8]) -> f32 {
        text.iter().map(|code| self.width_of(*code)).sum()
    }

    fn width_of(self, code: u8) -> f32 {
        let widths = match self.face {
            Face::Regular => &REGULAR,
            Face::Bold => &BOLD,
        };
        let width = code.checked_sub(FIRST).and_then(|at| widths.get(usize::from(at)));
        f32::from(width.copied().unwrap_or(0)) * self.size / 1_000.0
    }

    /// The bytes from the front that fit into a width; at least one.
    fn fitting(self, text: &[u8], width: f32) -> usize {
        let mut used = 0.0;
        let fits = text.iter().take_while(|code| {
            used += self.width_of(**code);
            used <= width
        });
        fits.count().max(1)
    }

    /// Lines that fit into a width, `lines_max` at most; where there are more, the last one ends in an ellipsis.
    pub(super) fn lines(self, text: &[u8], width: f32, lines_max: usize) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut rest = text.trim_ascii();
        while !rest.is_empty() {
            let n_fitting = self.fitting(rest, width);
            if n_fitting >= rest.len() {
                lines.push(rest.to_vec());
                break;
            }
            if lines.len() + 1 >= lines_max {
                let room = width - self.width_of(ELLIPSIS);
                let mut line: Vec<u8> = rest.iter().take(self.fitting(rest, room)).copied().collect();
                line.push(ELLIPSIS);
                lines.push(line);
                break;
            }
            let fitting = rest.get(..n_fitting).unwrap_or(rest);
            // A word that begins in the front half of the line is rather cut than moved.
            let at_break = fitting.iter().rposition(|code| BREAKS.contains(code));
            let n_taken = at_break
                .map(|at| at + 1)
                .filter(|n| *n * 2 > n_fitting)
                .unwrap_or(n_fitting);
            let (line, after) = rest.split_at(n_taken.min(rest.len()));
            lines.push(line.trim_ascii_end().to_vec());
            rest = after.trim_ascii_start();
        }
        if lines.is_empty() {
            lines.push(Vec::new());
        }
        lines
    }
}

/// The code of a character, where the fonts have it.
fn code_of(character: char) -> Option<u8> {
    match character {
        ' '..='~' | '\u{a0}'..='\u{ff}' => u8::try_from(u32::from(character)).ok(),
        '\0' => None,
        other => {
            let at = HIGH.iter().position(|high| *high == other)?;
            u8::try_from(at + 0x80).ok()
        }
    }
}

/// True where the fonts have every character of a text.
pub(super) fn has_all(text: &str) -> bool {
    text.chars().all(|character| code_of(character).is_some())
}

/// A text in WinAnsi; what the fonts do not have stands there by its number.
pub(super) fn encoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut is_open = false;
    for character in text.chars() {
        match code_of(character) {
            Some(code) => {
                if std::mem::take(&mut is_open) {
                    bytes.push(b'>');
                }
                bytes.push(code);
            }
            None => {
                bytes.extend_from_slice(if is_open { b" " } else { b"<U+" });
                bytes.extend_from_slice(format!("{:04X}", u32::from(character)).as_bytes());
                is_open = true;
            }
        }
    }
    if is_open {
        bytes.push(b'>');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_the_fonts_lack_is_shown_by_its_number_and_never_as_another() {
        assert_eq!(encoded("Zürich (€)"), b"Z\xfcrich (\x80)");
        assert_eq!(encoded("研发 1"), b"<U+7814 53D1> 1");
        assert_eq!(encoded("a\u{fffd}"), b"a<U+FFFD>");
        assert_eq!(encoded("\0\u{81}\n"), b"<U+0000 0081 000A>");
        assert!(has_all("Æ – “quoted”…") && !has_all("Ł"));
    }

    #[test]
    fn lines_fit_and_hold_the_whole_text_or_say_that_they_do_not() {
        let style = Style::regular(8.0);
        assert!((style.width(b"000") - 3.0 * 0.556 * 8.0).abs() < 0.001);
        for text in [
            &b"payments-service/production and more of it"[..],
            &[b'W'; 90],
            b" ",
            b"",
        ] {
            let lines = style.lines(text, 60.0, usize::MAX);
            assert!(lines.iter().all(|line| style.width(line) <= 60.0), "{lines:?}");
            let blank = |text: &[u8]| text.iter().filter(|code| **code != b' ').copied().collect::<Vec<_>>();
            assert_eq!(blank(&lines.concat()), blank(text));
        }
        let cut = style.lines(&[b'W'; 90], 60.0, 2);
        assert_eq!((cut.len(), cut[1].last()), (2, Some(&ELLIPSIS)));
        assert!(style.width(&cut[1]) <= 60.0);
        assert_eq!(style.lines(b"W", 0.5, 3), [b"W"]);
    }
}
