//! [`Confirmation`]: a tool that changes something, or reads very much, asks a person first.
//!
//! One call of [`Confirmation::demand`] serves every client. A client that can ask its user (elicitation) gets the
//! question as a multi-round-trip request, or as a task's `input_required`; any other is told to show the preview and
//! call again with `confirm: true`. What proves that the question was asked of this principal for this very call is
//! the sealed `requestState` (see `server`), never the client's word.

use parking_lot::Mutex;
use spanledger_query::{Error, Result};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// What will happen, for a person: names and amounts, one or two sentences.
    pub(crate) message: String,
    /// A page of the dashboard that shows it, for clients that open addresses.
    pub(crate) url: Option<String>,
}

/// What a person said, and what the tool asks.
#[derive(Debug, Default)]
pub(crate) struct Confirmation {
    said: Option<bool>,
    asked: Mutex<Option<Question>>,
}

impl Confirmation {
    /// Nobody was asked yet.
    pub(crate) fn unasked() -> Self {
        Self::default()
    }

    /// A person answered the question of this very call.
    pub(crate) fn said(yes: bool) -> Self {
        Self {
            said: Some(yes),
            asked: Mutex::default(),
        }
    }

    /// Goes on where the argument `confirm` or a person said yes.
    ///
    /// # Errors
    /// [`Invalid`](spanledger_query::ErrorKind::Invalid): a person said no, or has to be asked. Return it as it is: the
    /// server turns it into the client's way of asking.
    pub(crate) fn demand(&self, confirm_argument: bool, question: impl FnOnce() -> Question) -> Result<()> {
        match self.said {
            Some(true) => Ok(()),
            Some(false) => Err(Error::invalid("the user declined; nothing was done")),
            None if confirm_argument => Ok(()),
            None => {
                let question = question();
                let error = Error::invalid(format!(
                    "{}; nothing was done yet: ask the user, then call again with \"confirm\": true",
                    question.message
                ));
                *self.asked.lock() = Some(question);
                Err(error)
            }
        }
    }

    /// The question of a tool that ended with an error, where it asked one.
    pub(crate) fn question(&self) -> Option<Question> {
        self.asked.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn question() -> Question {
        Question {
            message: "sets a budget of 5 USD".to_owned(),
            url: None,
        }
    }

    #[test]
    fn only_a_yes_lets_a_change_through() {
        assert!(Confirmation::said(true).demand(false, question).is_ok());
        assert!(Confirmation::unasked().demand(true, question).is_ok());
        // A person's no outweighs the argument.
        let declined = Confirmation::said(false);
        assert!(declined.demand(true, question).is_err() && declined.question().is_none());
        let open = Confirmation::unasked();
        let error = open.demand(false, question).unwrap_err();
        assert!(error.message().contains("\"confirm\": true"), "{}", error.message());
        assert_eq!(open.question(), Some(question()));
    }
}
