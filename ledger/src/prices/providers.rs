//! What senders call a provider, folded to the catalogue's identity.
//!
//! The OpenTelemetry GenAI conventions (`gen_ai.provider.name`, formerly `gen_ai.system`), OpenInference,
//! LangChain and the Vercel AI SDK each have their own spelling. The catalogue's own alias rules come
//! after the table here, because `azure.ai.openai` holds the word `openai` and is not OpenAI.

use super::catalogue::Provider;

/// Spellings by provider, lowercase, with `-` for every `_`, `.`, `/` and space.
const ALIASES: [(&str, &[&str]); 15] = [
    (
        "aws",
        &[
            "aws-bedrock",
            "bedrock",
            "bedrock-converse",
            "amazon-bedrock",
            "bedrock-runtime",
            "aws-sagemaker",
        ],
    ),
    (
        "azure",
        &[
            "az-ai-openai",
            "az-ai-inference",
            "azure-ai",
            "azure-openai",
            "azure-ai-openai",
            "azure-ai-inference",
            "microsoft-foundry",
        ],
    ),
    ("cloudflare", &["cloudflare-workers-ai", "workers-ai"]),
    ("cohere", &["cohere-ai", "cohere-chat"]),
    ("deepseek", &["deepseek-ai"]),
    ("fireworks", &["fireworks-ai"]),
    ("github-copilot", &["github", "copilot"]),
    (
        "google",
        &[
            "gcp",
            "gcp-gemini",
            "gcp-gen-ai",
            "gcp-vertex-ai",
            "gemini",
            "google-ai",
            "google-ai-studio",
            "google-genai",
            "google-generative-ai",
            "google-gla",
            "google-vertex",
            "google-vertexai",
            "google-vertex-ai",
            "googleai",
            "vertex",
            "vertex-ai",
            "vertex-ai-beta",
            "vertexai",
        ],
    ),
    ("mistral", &["mistral-ai", "mistralai"]),
    ("moonshotai", &["moonshot", "moonshot-ai", "kimi"]),
    ("together", &["together-ai", "togetherai"]),
    ("voyageai", &["voyage", "voyage-ai"]),
    ("x-ai", &["xai", "grok"]),
    ("zai", &["z-ai"]),
    ("zhipuai", &["zhipu", "zhipu-ai", "bigmodel"]),
];

/// Gateways that bill nothing themselves: the model's own name says who does.
const PROXIES: [&str; 6] = [
    "litellm",
    "litellm-proxy",
    "portkey",
    "helicone",
    "vercel-ai-gateway",
    "gateway",
];

/// Who a sender says it called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// A provider of the catalogue, by its place. `own_id` where the sender wrote the catalogue's identity.
    Known { index: usize, own_id: bool },
    /// A gateway in front of a provider.
    Proxy,
    /// Nobody the catalogue knows.
    Unknown,
}

/// Finds who is meant by a lowercase name: the identity itself, a spelling of the table, a cloud by its
/// name, the catalogue's alias rule, a spelling before the first dot (`xai.chat`).
pub(super) fn find_provider(providers: &[Provider], name: &str) -> Named {
    let own = providers.iter().position(|provider| provider.id == name);
    if let Some(index) = own {
        return Named::Known { index, own_id: true };
    }
    let spelling = dashed(name);
    if PROXIES.contains(&spelling.as_str()) {
        return Named::Proxy;
    }
    let alias = |index| Named::Known { index, own_id: false };
    let spelled = find_spelling(providers, &spelling);
    let azure = || {
        spelling
            .contains("azure")
            .then(|| position(providers, "azure"))
            .flatten()
    };
    let by_rule = || {
        providers
            .iter()
            .position(|provider| provider.provider_rule.as_ref().is_some_and(|rule| rule.matches(name)))
    };
    let before_dot = || {
        name.split_once('.')
            .and_then(|(first, _)| find_spelling(providers, &dashed(first)))
    };
    spelled
        .or_else(azure)
        .or_else(by_rule)
        .or_else(before_dot)
        .map_or(Named::Unknown, alias)
}

/// A provider that the catalogue does not have.
pub(super) fn new_provider(name: &str) -> Provider {
    Provider {
        id: dashed(name.trim()),
        model_rule: None,
        provider_rule: None,
        fallbacks: Vec::new(),
        models: Vec::new(),
    }
}

/// The identity of a provider that a sender names: the catalogue's, else the name in one spelling.
pub(super) fn identity_of(providers: &[Provider], name: &str) -> String {
    let name = name.trim().to_lowercase();
    match find_provider(providers, &name) {
        Named::Known { index, .. } => providers.get(index).map(|provider| provider.id.clone()),
        _ => None,
    }
    .unwrap_or_else(|| dashed(&name))
}

/// The region that a model's name tells: that of an ARN, of an inference profile of Amazon Bedrock
/// (`eu.anthropic.claude-…`), or of a route (`azure/eu/gpt-5`).
pub(super) fn region_of(model: &str) -> Option<&str> {
    if let Some(resource) = model.strip_prefix("arn:") {
        return resource.split(':').nth(2).filter(|region| !region.is_empty());
    }
    let route = model.split_once('/').and_then(|(_, rest)| rest.split_once('/'));
    if let Some((region, _)) = route
        && is_region(region)
    {
        return Some(region);
    }
    let name = model.strip_prefix("bedrock/").unwrap_or(model);
    let (region, rest) = name.split_once('.')?;
    (is_bedrock_model(rest) && !is_bedrock_maker(region)).then_some(region)
}

/// True for `eu`, `us`, `global`, `us-east-1`.
pub(super) fn is_region(text: &str) -> bool {
    let is_zone = || {
        let (place, number) = text.rsplit_once('-').unwrap_or((text, ""));
        let parts = place.split('-').count();
        (2..=3).contains(&parts)
            && place
                .split('-')
                .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase()))
            && !number.is_empty()
            && number.len() <= 2
            && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    ["eu", "us", "global", "apac", "au", "ca", "jp"].contains(&text) || is_zone()
}

/// The provider that the first part of `openrouter/anthropic/claude-sonnet-4.5` names. Only identities
/// and spellings count here, no loose rule.
pub(super) fn find_prefix<'m>(providers: &[Provider], model: &'m str) -> Option<(usize, &'m str)> {
    let (first, rest) = model.split_once('/')?;
    let found = find_spelling(providers, &dashed(first));
    found.filter(|_| !rest.is_empty()).map(|index| (index, rest))
}

/// True for names that only Amazon Bedrock gives its models: an ARN, `anthropic.claude-…`,
/// `us.anthropic.claude-…-v1:0`.
pub(super) fn is_bedrock_model(model: &str) -> bool {
    let name = model.strip_prefix("bedrock/").unwrap_or(model);
    let mut parts = name.split('.');
    let (first, second) = (parts.next().unwrap_or(""), parts.next());
    name.starts_with("arn:aws")
        || second.is_some() && is_bedrock_maker(first)
        || second.is_some_and(is_bedrock_maker) && parts.next().is_some()
}

fn is_bedrock_maker(part: &str) -> bool {
    const MAKERS: [&str; 9] = [
        "anthropic",
        "amazon",
        "meta",
        "mistral",
        "cohere",
        "ai21",
        "deepseek",
        "stability",
        "openai",
    ];
    MAKERS.contains(&part)
}

fn find_spelling(providers: &[Provider], spelling: &str) -> Option<usize> {
    let aliased = ALIASES
        .iter()
        .find(|(_, spellings)| spellings.contains(&spelling))
        .map(|(id, _)| *id);
    position(providers, aliased.unwrap_or(spelling))
}

fn position(providers: &[Provider], id: &str) -> Option<usize> {
    providers.iter().position(|provider| provider.id == id)
}

fn dashed(name: &str) -> String {
    name.replace(['_', '.', '/', ' '], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_read_off_the_models_name() {
        for (model, region) in [
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-x",
                Some("us-east-1"),
            ),
            ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", Some("eu")),
            ("bedrock/global.anthropic.claude-x", Some("global")),
            ("bedrock/eu-central-1/anthropic.claude-x", Some("eu-central-1")),
            ("azure/eu/gpt-5", Some("eu")),
            ("anthropic.claude-x", None),
            ("openrouter/anthropic/claude-sonnet-4.5", None),
            ("gpt-5.4", None),
            ("arn:", None),
        ] {
            assert_eq!(region_of(model), region, "{model}");
        }
    }
}
