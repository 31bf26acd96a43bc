//! Who may come in, made of the settings and the control state when the server starts: keys, sessions, tokens,
//! challenges, names, rates, the audit log.
//!
//! Without `access.mode = "required"` everyone who reaches the loopback address is the local principal; keys can be
//! made all the same, so that they are there when the mode changes. Nothing here looks at a request.

use std::sync::Arc;

use spanledger_access::audit::Audit;
use spanledger_access::chain::Chain;
use spanledger_access::challenge::Challenges;
use spanledger_access::keys::Keys;
use spanledger_access::oauth::OAuth;
use spanledger_access::origin::Names;
use spanledger_access::rates::{Rates, Strangers};
use spanledger_access::sessions::Sessions;
use spanledger_access::{LocalOnly, SharedAuthenticator};
use spanledger_ingest::Door;
use spanledger_model::Clock;
use spanledger_state::State;

use super::Addresses;
use crate::config::Config;

/// The components that decide who may do what.
#[derive(Clone)]
pub struct Credentials {
    /// What they are kept in.
    pub state: State,
    /// True where a request needs a credential.
    pub is_required: bool,
    /// Turns an `Authorization` header into a principal.
    pub authenticator: SharedAuthenticator,
    /// API keys.
    pub keys: Keys,
    /// Sessions of browsers.
    pub sessions: Sessions,
    /// The audit log.
    pub audit: Audit,
    /// What a refused client is told.
    pub challenges: Challenges,
    /// Hosts and origins that are ours.
    pub names: Names,
    /// The server's URL as its clients see it, without a slash at the end.
    pub public_url: String,
    /// REST and MCP requests of a tenant; none without credentials, which make no tenants.
    pub requests: Option<Rates>,
    /// Who was refused.
    pub strangers: Strangers,
    otlp: Option<(Rates, Rates)>,
}

impl Credentials {
    /// Opens the control state of the data folder and makes everything on it. Nothing is fetched.
    ///
    /// # Errors
    /// Kind invalid for settings that cannot be used; where the control state cannot be opened.
    pub async fn open(config: &Config, addresses: &Addresses, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let state = State::open(config.data()).await?;
        let roles = config.access.roles()?;
        let is_required = config.access.is_required();
        let bound = format!("http://{}", addresses.http);
        let public_url = config.public_url().map_or(bound, str::to_owned);
        let audit = Audit::open(
            state.clone(),
            Arc::clone(clock),
            config.access.audit_retention_days.value,
        );
        let keys = Keys::new(state.clone(), roles.clone(), Arc::clone(clock)).with_audit(audit.clone());
        let oauth = &config.access.oauth.value;
        let mut chain = Chain::new(keys.clone());
        if !oauth.is_empty() {
            chain = chain.with_tokens(Arc::new(OAuth::new(oauth, roles, &public_url, Arc::clone(clock))?));
        }
        let limited = |rate| Rates::new(rate, Arc::clone(clock));
        let limits = &config.limits;
        Ok(Self {
            authenticator: if is_required {
                Arc::new(chain)
            } else {
                Arc::new(LocalOnly)
            },
            sessions: Sessions::new(keys.clone()),
            keys,
            audit,
            challenges: match is_required {
                true => Challenges::for_oauth(oauth, &public_url),
                false => Challenges::none(),
            },
            names: match is_required {
                true => Names::with_login(config.public_url().unwrap_or_default()),
                false => Names::local(),
            },
            public_url,
            requests: is_required.then(|| limited(limits.api_requests())),
            otlp: is_required.then(|| (limited(limits.otlp_requests()), limited(limits.otlp_bytes()))),
            strangers: Strangers::new(Arc::clone(clock)),
            is_required,
            state,
        })
    }

    /// The door of the OTLP receivers.
    pub fn door(&self) -> Door {
        let door = Door::from(Arc::clone(&self.authenticator)).with_names(self.names.clone(), self.challenges.clone());
        let door = door.with_strangers(self.strangers.clone());
        match &self.otlp {
            Some((requests, bytes)) => door.with_rates(requests.clone(), bytes.clone()),
            None => door,
        }
    }
}
