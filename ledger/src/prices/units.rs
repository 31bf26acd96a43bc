//! The units that providers meter, and how they lie inside one another.
//!
//! A unit is a set of dimensions. It is an *ancestor* of another when its dimensions are a subset of the
//! other's (`input_tokens` of `cache_read_tokens`): the descendant's quantity is counted in the ancestor's
//! too. The *join* of two compatible units is the unit with the dimensions of both
//! (`cache_read_tokens` and `input_audio_tokens` join in `cache_audio_read_tokens`).
//!
//! The table and these terms are those of genai-prices (`prices/units.yml`, MIT, see
//! `ledger/prices/README.md`). Durations are metered in milliseconds here, everything else in ones, so
//! that a quantity is always an integer.

use std::sync::LazyLock;

use spanledger_model::Bucket;

/// How many units there are. They fit the bits of a [`UnitSet`].
pub const N_UNITS: usize = 59;

const THOUSAND: i64 = 1_000;
const MILLION: i64 = 1_000_000;
const BILLION: i64 = 1_000_000_000;
/// Milliseconds an hour: durations are priced by the hour.
const HOUR_MS: i64 = 3_600_000;

type Dimension = (&'static str, &'static str);

const DURATIONS: Dimension = ("family", "durations");
const AUDIO: Dimension = ("modality", "audio");
const IN: Dimension = ("direction", "input");
const TOKENS: Dimension = ("family", "tokens");
const READ: Dimension = ("token_type", "cache_read");
const HOUR: Dimension = ("cache_ttl", "1h");
const WRITE: Dimension = ("token_type", "cache_write");
const FIVE_MINUTES: Dimension = ("cache_ttl", "5m");
const IMAGE: Dimension = ("modality", "image");
const TEXT: Dimension = ("modality", "text");
const VIDEO: Dimension = ("modality", "video");
const TOOL_CALLS: Dimension = ("family", "tool_calls");
const CODE_EXECUTION: Dimension = ("tool_type", "code_execution");
const PAGES: Dimension = ("family", "document_pages");
const ANNOTATED: Dimension = ("page_type", "annotated");
const TOOL: Dimension = ("token_type", "tool");
const CHARACTERS: Dimension = ("family", "characters");
const PIXELS: Dimension = ("family", "pixels");
const MESSAGES: Dimension = ("family", "messages");
const OUT: Dimension = ("direction", "output");
const CITATION: Dimension = ("token_type", "citation");
const REASONING: Dimension = ("token_type", "reasoning");
const REQUESTS_FAMILY: Dimension = ("family", "requests");
const RERANK: Dimension = ("family", "rerank");
const SOCIAL_SEARCH: Dimension = ("tool_type", "social_search");
const STORAGE_SEARCH: Dimension = ("tool_type", "storage_search");
const WEB_SEARCH: Dimension = ("tool_type", "web_search");

/// One metered unit.
#[derive(Debug, Clone, Copy)]
pub struct Unit {
    /// Name of the quantity, `input_tokens`.
    pub usage_key: &'static str,
    /// Name of its price in a catalogue, `input_mtok`.
    pub price_key: &'static str,
    /// How many the price buys: 1,000,000 tokens, 1,000 requests, 3,600,000 ms.
    pub per: i64,
    dimensions: &'static [Dimension],
}

impl Unit {
    /// Something priced by the one that no catalogue knows: a call, a second, a byte.
    pub(super) const fn of_one() -> Self {
        unit("", "", 1, &[])
    }
}

const fn unit(usage_key: &'static str, price_key: &'static str, per: i64, dimensions: &'static [Dimension]) -> Unit {
    Unit {
        usage_key,
        price_key,
        per,
        dimensions,
    }
}

/// Every unit, by usage key.
#[rustfmt::skip]
static UNITS: [Unit; N_UNITS] = [
    unit("audio_seconds", "audio_hours", HOUR_MS, &[DURATIONS, AUDIO]),
    unit("cache_audio_read_tokens", "cache_audio_read_mtok", MILLION, &[IN, TOKENS, AUDIO, READ]),
    unit("cache_audio_write_1h_tokens", "cache_audio_write_1h_mtok", MILLION, &[HOUR, IN, TOKENS, AUDIO, WRITE]),
    unit("cache_audio_write_5m_tokens", "cache_audio_write_5m_mtok", MILLION, &[FIVE_MINUTES, IN, TOKENS, AUDIO, WRITE]),
    unit("cache_audio_write_tokens", "cache_audio_write_mtok", MILLION, &[IN, TOKENS, AUDIO, WRITE]),
    unit("cache_image_read_tokens", "cache_image_read_mtok", MILLION, &[IN, TOKENS, IMAGE, READ]),
    unit("cache_image_write_1h_tokens", "cache_image_write_1h_mtok", MILLION, &[HOUR, IN, TOKENS, IMAGE, WRITE]),
    unit("cache_image_write_5m_tokens", "cache_image_write_5m_mtok", MILLION, &[FIVE_MINUTES, IN, TOKENS, IMAGE, WRITE]),
    unit("cache_image_write_tokens", "cache_image_write_mtok", MILLION, &[IN, TOKENS, IMAGE, WRITE]),
    unit("cache_read_tokens", "cache_read_mtok", MILLION, &[IN, TOKENS, READ]),
    unit("cache_text_read_tokens", "cache_text_read_mtok", MILLION, &[IN, TOKENS, TEXT, READ]),
    unit("cache_text_write_1h_tokens", "cache_text_write_1h_mtok", MILLION, &[HOUR, IN, TOKENS, TEXT, WRITE]),
    unit("cache_text_write_5m_tokens", "cache_text_write_5m_mtok", MILLION, &[FIVE_MINUTES, IN, TOKENS, TEXT, WRITE]),
    unit("cache_text_write_tokens", "cache_text_write_mtok", MILLION, &[IN, TOKENS, TEXT, WRITE]),
    unit("cache_video_read_tokens", "cache_video_read_mtok", MILLION, &[IN, TOKENS, VIDEO, READ]),
    unit("cache_video_write_1h_tokens", "cache_video_write_1h_mtok", MILLION, &[HOUR, IN, TOKENS, VIDEO, WRITE]),
    unit("cache_video_write_5m_tokens", "cache_video_write_5m_mtok", MILLION, &[FIVE_MINUTES, IN, TOKENS, VIDEO, WRITE]),
    unit("cache_video_write_tokens", "cache_video_write_mtok", MILLION, &[IN, TOKENS, VIDEO, WRITE]),
    unit("cache_write_1h_tokens", "cache_write_1h_mtok", MILLION, &[HOUR, IN, TOKENS, WRITE]),
    unit("cache_write_5m_tokens", "cache_write_5m_mtok", MILLION, &[FIVE_MINUTES, IN, TOKENS, WRITE]),
    unit("cache_write_tokens", "cache_write_mtok", MILLION, &[IN, TOKENS, WRITE]),
    unit("code_executions", "code_executions_kcount", THOUSAND, &[TOOL_CALLS, CODE_EXECUTION]),
    unit("input_annotated_document_pages", "input_annotated_document_kpages", THOUSAND, &[IN, PAGES, ANNOTATED]),
    unit("input_audio_seconds", "input_audio_hours", HOUR_MS, &[IN, DURATIONS, AUDIO]),
    unit("input_audio_tokens", "input_audio_mtok", MILLION, &[IN, TOKENS, AUDIO]),
    unit("input_audio_tool_tokens", "input_audio_tool_mtok", MILLION, &[IN, TOKENS, AUDIO, TOOL]),
    unit("input_characters", "input_mchars", MILLION, &[IN, CHARACTERS]),
    unit("input_document_pages", "input_document_kpages", THOUSAND, &[IN, PAGES]),
    unit("input_image_tokens", "input_image_mtok", MILLION, &[IN, TOKENS, IMAGE]),
    unit("input_image_tool_tokens", "input_image_tool_mtok", MILLION, &[IN, TOKENS, IMAGE, TOOL]),
    unit("input_pixels", "input_gpixels", BILLION, &[IN, PIXELS]),
    unit("input_text_messages", "input_text_messages_kcount", THOUSAND, &[IN, MESSAGES, TEXT]),
    unit("input_text_tokens", "input_text_mtok", MILLION, &[IN, TOKENS, TEXT]),
    unit("input_text_tool_tokens", "input_text_tool_mtok", MILLION, &[IN, TOKENS, TEXT, TOOL]),
    unit("input_tokens", "input_mtok", MILLION, &[IN, TOKENS]),
    unit("input_tool_tokens", "input_tool_mtok", MILLION, &[IN, TOKENS, TOOL]),
    unit("input_video_tokens", "input_video_mtok", MILLION, &[IN, TOKENS, VIDEO]),
    unit("input_video_tool_tokens", "input_video_tool_mtok", MILLION, &[IN, TOKENS, VIDEO, TOOL]),
    unit("output_audio_citation_tokens", "output_audio_citation_mtok", MILLION, &[OUT, TOKENS, AUDIO, CITATION]),
    unit("output_audio_reasoning_tokens", "output_audio_reasoning_mtok", MILLION, &[OUT, TOKENS, AUDIO, REASONING]),
    unit("output_audio_seconds", "output_audio_hours", HOUR_MS, &[OUT, DURATIONS, AUDIO]),
    unit("output_audio_tokens", "output_audio_mtok", MILLION, &[OUT, TOKENS, AUDIO]),
    unit("output_citation_tokens", "output_citation_mtok", MILLION, &[OUT, TOKENS, CITATION]),
    unit("output_image_citation_tokens", "output_image_citation_mtok", MILLION, &[OUT, TOKENS, IMAGE, CITATION]),
    unit("output_image_reasoning_tokens", "output_image_reasoning_mtok", MILLION, &[OUT, TOKENS, IMAGE, REASONING]),
    unit("output_image_tokens", "output_image_mtok", MILLION, &[OUT, TOKENS, IMAGE]),
    unit("output_reasoning_tokens", "output_reasoning_mtok", MILLION, &[OUT, TOKENS, REASONING]),
    unit("output_text_citation_tokens", "output_text_citation_mtok", MILLION, &[OUT, TOKENS, TEXT, CITATION]),
    unit("output_text_reasoning_tokens", "output_text_reasoning_mtok", MILLION, &[OUT, TOKENS, TEXT, REASONING]),
    unit("output_text_tokens", "output_text_mtok", MILLION, &[OUT, TOKENS, TEXT]),
    unit("output_tokens", "output_mtok", MILLION, &[OUT, TOKENS]),
    unit("output_video_citation_tokens", "output_video_citation_mtok", MILLION, &[OUT, TOKENS, VIDEO, CITATION]),
    unit("output_video_reasoning_tokens", "output_video_reasoning_mtok", MILLION, &[OUT, TOKENS, VIDEO, REASONING]),
    unit("output_video_tokens", "output_video_mtok", MILLION, &[OUT, TOKENS, VIDEO]),
    unit("requests", "requests_kcount", THOUSAND, &[REQUESTS_FAMILY]),
    unit("rerank_searches", "rerank_searches_kcount", THOUSAND, &[RERANK]),
    unit("social_searches", "social_searches_kcount", THOUSAND, &[TOOL_CALLS, SOCIAL_SEARCH]),
    unit("storage_searches", "storage_searches_kcount", THOUSAND, &[TOOL_CALLS, STORAGE_SEARCH]),
    unit("web_searches", "web_searches_kcount", THOUSAND, &[TOOL_CALLS, WEB_SEARCH]),
];

/// A unit by its place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId(u8);

impl UnitId {
    /// All input tokens.
    pub const INPUT: Self = Self::constant("input_tokens");
    /// Input read from a cache.
    pub const CACHE_READ: Self = Self::constant("cache_read_tokens");
    /// Input written to a cache.
    pub const CACHE_WRITE: Self = Self::constant("cache_write_tokens");
    /// Input written to a cache for five minutes.
    pub const CACHE_WRITE_5M: Self = Self::constant("cache_write_5m_tokens");
    /// Input written to a cache for an hour.
    pub const CACHE_WRITE_1H: Self = Self::constant("cache_write_1h_tokens");
    /// Audio input.
    pub const INPUT_AUDIO: Self = Self::constant("input_audio_tokens");
    /// Image input.
    pub const INPUT_IMAGE: Self = Self::constant("input_image_tokens");
    /// All output tokens.
    pub const OUTPUT: Self = Self::constant("output_tokens");
    /// Reasoning output.
    pub const REASONING: Self = Self::constant("output_reasoning_tokens");
    /// Audio output.
    pub const OUTPUT_AUDIO: Self = Self::constant("output_audio_tokens");
    /// Web searches.
    pub const WEB_SEARCHES: Self = Self::constant("web_searches");
    /// The request itself.
    pub const REQUESTS: Self = Self::constant("requests");

    /// The unit of a usage key such as `input_tokens`.
    #[must_use]
    pub fn of_usage_key(key: &str) -> Option<Self> {
        Self::all().find(|id| id.unit().usage_key == key)
    }

    /// The unit of a price key such as `input_mtok`.
    #[must_use]
    pub fn of_price_key(key: &str) -> Option<Self> {
        Self::all().find(|id| id.unit().price_key == key)
    }

    /// Every unit.
    pub fn all() -> impl Iterator<Item = Self> {
        // There are fewer than 64.
        (0..N_UNITS as u8).map(Self)
    }

    /// Its definition.
    #[must_use]
    pub fn unit(self) -> &'static Unit {
        &UNITS[self.index()]
    }

    /// Its place in an array of [`N_UNITS`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The units that it is counted in.
    #[must_use]
    pub fn ancestors(self) -> UnitSet {
        LATTICE.ancestors[self.index()]
    }

    /// The units that are counted in it.
    #[must_use]
    pub fn descendants(self) -> UnitSet {
        LATTICE.descendants[self.index()]
    }

    /// True where the two may describe the same token.
    #[must_use]
    pub fn is_compatible(self, other: Self) -> bool {
        self.unit()
            .dimensions
            .iter()
            .all(|(key, value)| other.dimension(key).is_none_or(|other| other == *value))
    }

    /// The unit of what is counted in both.
    #[must_use]
    pub fn join(self, other: Self) -> Option<Self> {
        if !self.is_compatible(other) {
            return None;
        }
        let extra = other
            .unit()
            .dimensions
            .iter()
            .filter(|(key, _)| self.dimension(key).is_none())
            .count();
        let n_dimensions = self.unit().dimensions.len() + extra;
        Self::all().find(|candidate| {
            candidate.unit().dimensions.len() == n_dimensions
                && self.is_within(*candidate)
                && other.is_within(*candidate)
        })
    }

    /// The one of `priced` whose price applies to it: itself, or else its closest ancestor.
    #[must_use]
    #[inline]
    pub fn priced_by(self, priced: UnitSet) -> Option<Self> {
        if priced.contains(self) {
            return Some(self);
        }
        let candidates = priced.and(self.ancestors());
        candidates.iter().max_by_key(|id| id.unit().dimensions.len())
    }

    /// The ledger's token kind. What the ledger has no kind of its own for is booked under the nearest:
    /// video and documents under input, images under output, other searches under the request.
    #[must_use]
    #[inline]
    pub fn bucket(self) -> Bucket {
        LATTICE.bucket[self.index()]
    }

    fn find_bucket(self) -> Bucket {
        let [direction, modality, token_type] = ["direction", "modality", "token_type"].map(|key| self.dimension(key));
        match (direction, token_type, modality) {
            (_, Some("cache_read"), _) => Bucket::CacheRead,
            (_, Some("cache_write"), _) if self.dimension("cache_ttl") == Some("1h") => Bucket::CacheWrite1h,
            (_, Some("cache_write"), _) => Bucket::CacheWrite5m,
            (_, Some("reasoning"), _) => Bucket::Reasoning,
            (Some("output"), _, Some("audio")) => Bucket::AudioOutput,
            (Some("output"), ..) => Bucket::Output,
            (_, _, Some("audio")) => Bucket::AudioInput,
            (_, _, Some("image")) => Bucket::ImageInput,
            (Some(_), ..) => Bucket::Input,
            _ if self == Self::WEB_SEARCHES => Bucket::WebSearch,
            _ => Bucket::Request,
        }
    }

    /// The unit that a bucket's tokens are metered in.
    #[must_use]
    pub fn of_bucket(bucket: Bucket) -> Self {
        match bucket {
            Bucket::Input => Self::INPUT,
            Bucket::CacheRead => Self::CACHE_READ,
            Bucket::CacheWrite5m => Self::CACHE_WRITE_5M,
            Bucket::CacheWrite1h => Self::CACHE_WRITE_1H,
            Bucket::AudioInput => Self::INPUT_AUDIO,
            Bucket::ImageInput => Self::INPUT_IMAGE,
            Bucket::Output => Self::OUTPUT,
            Bucket::Reasoning => Self::REASONING,
            Bucket::AudioOutput => Self::OUTPUT_AUDIO,
            Bucket::WebSearch => Self::WEB_SEARCHES,
            Bucket::Request => Self::REQUESTS,
        }
    }

    /// True for tokens of any kind.
    #[must_use]
    #[inline]
    pub fn counts_tokens(self) -> bool {
        LATTICE.tokens.contains(self)
    }

    fn dimension(self, name: &str) -> Option<&'static str> {
        self.unit()
            .dimensions
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }

    /// True where every dimension of `self` is one of `other`'s.
    fn is_within(self, other: Self) -> bool {
        self.unit()
            .dimensions
            .iter()
            .all(|(key, value)| other.dimension(key) == Some(value))
    }

    /// The unit of a key that is in the table; a test checks the constants above.
    const fn constant(usage_key: &str) -> Self {
        let wanted = usage_key.as_bytes();
        let mut place = 0;
        while place < N_UNITS {
            let candidate = UNITS[place].usage_key.as_bytes();
            let mut same = candidate.len() == wanted.len();
            let mut byte = 0;
            while same && byte < wanted.len() {
                same = candidate[byte] == wanted[byte];
                byte += 1;
            }
            if same {
                return Self(place as u8);
            }
            place += 1;
        }
        Self(u8::MAX)
    }
}

/// A set of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnitSet(u64);

impl UnitSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// The set with this unit too.
    #[must_use]
    pub const fn with(self, unit: UnitId) -> Self {
        Self(self.0 | 1 << unit.0)
    }

    /// The set without this unit.
    #[must_use]
    pub const fn without(self, unit: UnitId) -> Self {
        Self(self.0 & !(1 << unit.0))
    }

    /// What is in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// True where the unit is in it.
    #[must_use]
    pub const fn contains(self, unit: UnitId) -> bool {
        self.0 & 1 << unit.0 != 0
    }

    /// True where nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its units, the more specific ones first, so that they are taken out before what holds them.
    #[inline]
    pub fn most_specific_first(self) -> impl Iterator<Item = UnitId> {
        LATTICE
            .levels
            .iter()
            .rev()
            .flat_map(move |level| level.and(self).iter())
    }

    /// Its units, in the order of the table.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = UnitId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let place = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            u8::try_from(place).ok().filter(|place| *place < 64).map(UnitId)
        })
    }
}

impl FromIterator<UnitId> for UnitSet {
    fn from_iter<I: IntoIterator<Item = UnitId>>(units: I) -> Self {
        units.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// No unit has more dimensions; a test holds it.
const N_DIMENSIONS_MAX: usize = 6;

struct Lattice {
    ancestors: [UnitSet; N_UNITS],
    descendants: [UnitSet; N_UNITS],
    /// By number of dimensions.
    levels: [UnitSet; N_DIMENSIONS_MAX + 1],
    bucket: [Bucket; N_UNITS],
    /// The units that count tokens.
    tokens: UnitSet,
}

static LATTICE: LazyLock<Lattice> = LazyLock::new(|| {
    let mut lattice = Lattice {
        ancestors: [UnitSet::EMPTY; N_UNITS],
        descendants: [UnitSet::EMPTY; N_UNITS],
        levels: [UnitSet::EMPTY; N_DIMENSIONS_MAX + 1],
        bucket: [Bucket::Request; N_UNITS],
        tokens: UnitSet::EMPTY,
    };
    for unit in UnitId::all() {
        let ancestors = UnitId::all().filter(|candidate| *candidate != unit && candidate.is_within(unit));
        lattice.ancestors[unit.index()] = ancestors.collect();
        let descendants = UnitId::all().filter(|candidate| *candidate != unit && unit.is_within(*candidate));
        lattice.descendants[unit.index()] = descendants.collect();
        lattice.bucket[unit.index()] = unit.find_bucket();
        let level = &mut lattice.levels[unit.unit().dimensions.len().min(N_DIMENSIONS_MAX)];
        *level = level.with(unit);
    }
    let tokens = UnitId::all().filter(|unit| unit.dimension("family") == Some("tokens"));
    lattice.tokens = tokens.collect();
    lattice
});

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn constants_are_in_the_table() {
        for (unit, key) in [
            (UnitId::INPUT, "input_tokens"),
            (UnitId::CACHE_READ, "cache_read_tokens"),
            (UnitId::CACHE_WRITE, "cache_write_tokens"),
            (UnitId::CACHE_WRITE_5M, "cache_write_5m_tokens"),
            (UnitId::CACHE_WRITE_1H, "cache_write_1h_tokens"),
            (UnitId::INPUT_AUDIO, "input_audio_tokens"),
            (UnitId::INPUT_IMAGE, "input_image_tokens"),
            (UnitId::OUTPUT, "output_tokens"),
            (UnitId::REASONING, "output_reasoning_tokens"),
            (UnitId::OUTPUT_AUDIO, "output_audio_tokens"),
            (UnitId::WEB_SEARCHES, "web_searches"),
            (UnitId::REQUESTS, "requests"),
        ] {
            assert_eq!(unit.unit().usage_key, key);
            assert_eq!(UnitId::of_usage_key(key), Some(unit));
            assert_eq!(UnitId::of_price_key(unit.unit().price_key), Some(unit));
        }
    }

    #[test]
    fn the_more_specific_units_come_first() {
        let all: UnitSet = UnitId::all().collect();
        let in_order: Vec<usize> = all
            .most_specific_first()
            .map(|unit| unit.unit().dimensions.len())
            .collect();
        assert_eq!(in_order.len(), N_UNITS);
        assert!(in_order.is_sorted_by(|a, b| a >= b));
        assert!(in_order[0] <= N_DIMENSIONS_MAX);
    }

    #[test]
    fn a_bucket_and_its_unit_belong_together() {
        for unit in UnitId::all() {
            assert_eq!(
                UnitId::of_bucket(unit.bucket()).bucket(),
                unit.bucket(),
                "{}",
                unit.unit().usage_key
            );
        }
    }

    #[test]
    fn units_nest_and_join() {
        let find = |key| UnitId::of_usage_key(key).unwrap();
        assert!(UnitId::CACHE_WRITE_1H.ancestors().contains(UnitId::CACHE_WRITE));
        assert!(UnitId::INPUT.descendants().contains(UnitId::CACHE_WRITE_1H));
        assert!(!UnitId::INPUT.descendants().contains(UnitId::OUTPUT));
        assert_eq!(
            UnitId::CACHE_READ.join(UnitId::INPUT_AUDIO),
            Some(find("cache_audio_read_tokens"))
        );
        assert_eq!(UnitId::CACHE_READ.join(UnitId::CACHE_WRITE), None);
        let priced = [UnitId::INPUT, UnitId::CACHE_WRITE].into_iter().collect();
        assert_eq!(UnitId::CACHE_WRITE_1H.priced_by(priced), Some(UnitId::CACHE_WRITE));
        assert_eq!(UnitId::CACHE_READ.priced_by(priced), Some(UnitId::INPUT));
        assert_eq!(UnitId::OUTPUT.priced_by(priced), None);
    }
}
