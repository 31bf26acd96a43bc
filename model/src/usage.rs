//! Token counts of one model call, inclusive as in the OpenTelemetry GenAI conventions.

/// What a model call used. `None` is "not reported", never 0.
///
/// `input` includes cache reads, cache writes, audio and image tokens; `output` includes reasoning.
/// A dialect that reports exclusive counts is converted when it is read. A cache write whose
/// 5-minute / 1-hour split was not reported stands in `cache_write_5m` with `cache_write_1h` absent,
/// so that the sum of the two is always the whole cache write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Usage {
    /// All input tokens.
    pub input: Option<i64>,
    /// Input tokens read from a prompt cache.
    pub cache_read: Option<i64>,
    /// Input tokens written to a cache with the short (5 minute) or an unreported lifetime.
    pub cache_write_5m: Option<i64>,
    /// Input tokens written to a cache with the 1 hour lifetime.
    pub cache_write_1h: Option<i64>,
    /// All output tokens.
    pub output: Option<i64>,
    /// Output tokens spent on reasoning.
    pub reasoning: Option<i64>,
    /// Input tokens that were audio.
    pub audio_input: Option<i64>,
    /// Output tokens that were audio.
    pub audio_output: Option<i64>,
    /// Input tokens that were images.
    pub image_input: Option<i64>,
    /// Number of web searches the provider ran.
    pub web_searches: Option<i64>,
}

impl Usage {
    /// All cache writes, of either lifetime.
    #[must_use]
    pub fn cache_write(&self) -> Option<i64> {
        match (self.cache_write_5m, self.cache_write_1h) {
            (None, None) => None,
            (short, long) => Some(short.unwrap_or(0).saturating_add(long.unwrap_or(0))),
        }
    }

    /// True where nothing at all was reported.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// True where at least one count is above zero: the call cost something.
    #[must_use]
    pub fn is_chargeable(&self) -> bool {
        self.fields().iter().any(|count| count.is_some_and(|count| count > 0))
    }

    /// How many counts are reported: the measure of detail by which one record is preferred to another.
    #[must_use]
    pub fn detail(&self) -> usize {
        self.fields().iter().filter(|count| count.is_some()).count()
    }

    /// Each absent count taken from `other`.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            input: self.input.or(other.input),
            cache_read: self.cache_read.or(other.cache_read),
            cache_write_5m: self.cache_write_5m.or(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.or(other.cache_write_1h),
            output: self.output.or(other.output),
            reasoning: self.reasoning.or(other.reasoning),
            audio_input: self.audio_input.or(other.audio_input),
            audio_output: self.audio_output.or(other.audio_output),
            image_input: self.image_input.or(other.image_input),
            web_searches: self.web_searches.or(other.web_searches),
        }
    }

    fn fields(&self) -> [Option<i64>; 10] {
        [
            self.input,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.output,
            self.reasoning,
            self.audio_input,
            self.audio_output,
            self.image_input,
            self.web_searches,
        ]
    }
}
