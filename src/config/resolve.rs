//! Which of flag, environment, file and default a setting takes, and that it remembers which.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::LOG_FILTER_DEFAULT;
use crate::exit::{Kind, fail};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// This environment variable.
    Env(&'static str),
    /// This file.
    File(PathBuf),
    /// Built in.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Env(name) => write!(f, "environment ({name})"),
            Self::File(path) => write!(f, "file ({})", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

/// Paths, colon-separated in an environment variable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths(pub Vec<PathBuf>);

impl FromStr for Paths {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(
            std::env::split_paths(text)
                .filter(|path| !path.as_os_str().is_empty())
                .collect(),
        ))
    }
}

impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<String> = self.0.iter().map(|path| path.display().to_string()).collect();
        f.write_str(&paths.join(":"))
    }
}

/// Looks a variable up.
type Lookup = Box<dyn Fn(&str) -> Option<String>>;

/// The sources below the command line.
pub struct Resolver {
    file: PathBuf,
    env: Lookup,
}

impl Resolver {
    /// A resolver over one file and an environment. An empty variable counts as not set.
    pub fn new(file: PathBuf, env: impl Fn(&str) -> Option<String> + 'static) -> Self {
        Self {
            file,
            env: Box::new(move |name| env(name).filter(|value| !value.is_empty())),
        }
    }

    /// Takes the first source that has the setting.
    ///
    /// # Errors
    /// Kind invalid where the environment variable does not hold such a value.
    pub fn pick<T>(
        &self,
        key: &str,
        env: &'static str,
        flag: Option<T>,
        file: Option<T>,
        default: T,
    ) -> anyhow::Result<Setting<T>>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        if let Some(value) = flag {
            return Ok(Setting {
                value,
                origin: Origin::Flag,
            });
        }
        if let Some(text) = (self.env)(env) {
            let value = text.parse().map_err(|error| {
                fail(
                    Kind::Invalid,
                    format!("cannot read {env}={text} as {key}: {error}; unset it or correct it"),
                )
            })?;
            return Ok(Setting {
                value,
                origin: Origin::Env(env),
            });
        }
        Ok(match file {
            Some(value) => Setting {
                value,
                origin: Origin::File(self.file.clone()),
            },
            None => Setting {
                value: default,
                origin: Origin::Default,
            },
        })
    }

    /// A list that only the file has.
    pub fn of_file<T>(&self, list: Vec<T>) -> Setting<Vec<T>> {
        let origin = if list.is_empty() {
            Origin::Default
        } else {
            Origin::File(self.file.clone())
        };
        Setting { value: list, origin }
    }

    /// A section that only the file has.
    pub fn of_file_or_default<T: Default>(&self, value: Option<T>) -> Setting<T> {
        match value {
            Some(value) => Setting {
                value,
                origin: Origin::File(self.file.clone()),
            },
            None => Setting {
                value: T::default(),
                origin: Origin::Default,
            },
        }
    }

    /// Paths of the configuration file: a relative one is beside that file.
    pub fn beside_file(&self, paths: Vec<PathBuf>) -> Paths {
        let folder = self.file.parent().unwrap_or(std::path::Path::new(""));
        Paths(paths.into_iter().map(|path| folder.join(path)).collect())
    }

    /// The log filter: `SPANLEDGER_LOG`, and `RUST_LOG` as every Rust program reads it.
    pub fn log_filter(&self, flag: Option<String>, file: Option<String>) -> anyhow::Result<Setting<String>> {
        let name = if (self.env)("SPANLEDGER_LOG").is_some() {
            "SPANLEDGER_LOG"
        } else {
            "RUST_LOG"
        };
        self.pick("log.filter", name, flag, file, LOG_FILTER_DEFAULT.to_owned())
    }
}
