//! What a statement may be, decided before it is planned: bounded text, one statement, reading only.
//!
//! Three gates, in order: [`check_text`] looks at tokens (the tokenizer does not recurse, the parser and
//! everything behind it do), [`parse_query`] allows a closed list of statements, and the engine's
//! `verify_plan` refuses whatever a plan would change. Time, rows and memory are bounded while it runs,
//! in [`crate::engine`].

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::{Error, ErrorKind, Result};
use crate::limits::{SQL_BYTES_MAX, SQL_JOINS_MAX, SQL_NESTING_MAX, SQL_OPERATORS_MAX, SQL_SELECTS_MAX};

/// Words that can each add a level to an expression, as an operator does.
const OPERATOR_WORDS: [&str; 19] = [
    "AND", "OR", "NOT", "XOR", "IS", "IN", "LIKE", "ILIKE", "SIMILAR", "RLIKE", "REGEXP", "BETWEEN", "ESCAPE", "AT",
    "COLLATE", "DIV", "OVERLAPS", "OPERATOR", "CASE",
];

/// Depth to which the parser follows nested syntax.
const PARSER_RECURSION_MAX: usize = 100;

/// Bounds a statement's text.
///
/// # Errors
/// [`ErrorKind::TooLarge`] naming the limit, [`ErrorKind::Invalid`] for text that is no SQL or more than
/// one statement.
pub fn check_text(sql: &str) -> Result<()> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(too_large("bytes", sql.len(), SQL_BYTES_MAX));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize()
        .map_err(|error| Error::invalid(format!("the statement is not SQL: {error}")))?;
    let (mut operators, mut selects, mut joins, mut depth, mut deepest) = (0, 0, 0, 0usize, 0);
    let mut ended = false;
    for token in &tokens {
        if ended && !matches!(token, Token::Whitespace(_) | Token::SemiColon | Token::EOF) {
            return Err(Error::invalid(
                "one statement at a time: remove what follows the first `;`",
            ));
        }
        match token {
            Token::Whitespace(_) | Token::EOF | Token::Comma | Token::Period | Token::Number(..) => {}
            Token::SemiColon => ended = true,
            Token::LParen | Token::LBracket | Token::LBrace => {
                depth += 1;
                deepest = deepest.max(depth);
                // `a[1][2]…` nests without ever being deep in the text.
                operators += usize::from(!matches!(token, Token::LParen));
            }
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Word(word) if word.quote_style.is_none() => {
                let word = word.value.to_ascii_uppercase();
                match word.as_str() {
                    "SELECT" | "VALUES" => selects += 1,
                    "JOIN" => joins += 1,
                    other => operators += usize::from(OPERATOR_WORDS.contains(&other)),
                }
            }
            Token::Word(_) => {}
            literal if is_literal(literal) => {}
            _ => operators += 1,
        }
    }
    for (what, count, max) in [
        ("operators", operators, SQL_OPERATORS_MAX),
        ("levels of parentheses", deepest, SQL_NESTING_MAX),
        ("selects", selects, SQL_SELECTS_MAX),
        ("joins", joins, SQL_JOINS_MAX),
    ] {
        if count > max {
            return Err(too_large(what, count, max));
        }
    }
    Ok(())
}

fn is_literal(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
    )
}

fn too_large(what: &str, count: usize, max: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the statement has {count} {what} and the limit is {max}; split it or use IN (…) lists and CTEs"),
    )
}

/// Parses one statement and refuses any that is not a question. Run it on a thread with a query stack.
///
/// # Errors
/// [`ErrorKind::Invalid`] with the parser's position, or saying which statements are allowed.
pub fn parse_query(sql: &str) -> Result<Statement> {
    let dialect = GenericDialect {};
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(&dialect)
        .with_recursion_limit(PARSER_RECURSION_MAX)
        .build()?
        .parse_statements()?;
    let Some(statement) = statements.pop_front() else {
        return Err(Error::invalid("there is no statement; try SHOW TABLES"));
    };
    if !statements.is_empty() {
        return Err(Error::invalid(
            "one statement at a time: remove what follows the first `;`",
        ));
    }
    if reads_only(&statement) {
        return Ok(statement);
    }
    let first_word = sql.split_whitespace().next().unwrap_or("").to_ascii_uppercase();
    Err(Error::invalid(format!(
        "{first_word} is not allowed: the data is read-only; use SELECT, WITH, EXPLAIN, SHOW TABLES or DESCRIBE"
    )))
}

fn reads_only(statement: &Statement) -> bool {
    match statement {
        Statement::Explain(explain) => reads_only(&explain.statement),
        Statement::Statement(statement) => sql_reads_only(statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => false,
    }
}

fn sql_reads_only(statement: &SqlStatement) -> bool {
    match statement {
        SqlStatement::Explain { statement, .. } => sql_reads_only(statement),
        SqlStatement::Query(_)
        | SqlStatement::ExplainTable { .. }
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowColumns { .. }
        | SqlStatement::ShowFunctions { .. }
        | SqlStatement::ShowVariable { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_sum_of_two_thousand_terms_is_refused_before_it_is_parsed() {
        let sql = format!("SELECT 1{}", "+1".repeat(2_000));
        assert_eq!(check_text(&sql).unwrap_err().kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn deep_text_is_refused_in_every_spelling() {
        for sql in [
            format!("SELECT {}1{}", "(".repeat(65), ")".repeat(65)),
            format!("SELECT a{}", "[1]".repeat(501)),
            format!("SELECT {}true", "NOT ".repeat(501)),
            format!("SELECT 1{}", "::int".repeat(501)),
            format!("SELECT true{}", " IS TRUE".repeat(501)),
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(200)),
            format!("SELECT 1 FROM a{}", " JOIN b ON true".repeat(33)),
            format!("SELECT '{}'", "x".repeat(SQL_BYTES_MAX)),
        ] {
            assert_eq!(check_text(&sql).unwrap_err().kind(), ErrorKind::TooLarge, "{sql:.60}");
        }
    }

    #[test]
    fn long_lists_and_literals_are_allowed() {
        let list = (0..10_000).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
        check_text(&format!("SELECT * FROM calls WHERE hops IN ({list})")).unwrap();
        check_text("SELECT 'a;b', \"c;d\" -- ; comment\n FROM t;").unwrap();
    }

    #[test]
    fn two_statements_are_refused() {
        let error = check_text("SELECT 1; SELECT 2").unwrap_err();
        assert!(error.message().contains("one statement at a time"), "{error}");
    }

    #[test]
    fn only_questions_are_allowed() {
        for sql in [
            "SELECT 1",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
            "SHOW TABLES",
            "SHOW COLUMNS FROM calls",
            "DESCRIBE calls",
            "VALUES (1)",
        ] {
            parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        for sql in [
            "CREATE TABLE a (b INT)",
            "CREATE VIEW a AS SELECT 1",
            "CREATE EXTERNAL TABLE a STORED AS PARQUET LOCATION '/etc'",
            "CREATE FUNCTION f() RETURNS INT RETURN 1",
            "DROP TABLE calls",
            "INSERT INTO calls VALUES (1)",
            "UPDATE calls SET kind = 'x'",
            "DELETE FROM calls",
            "TRUNCATE calls",
            "COPY calls TO '/tmp/x.csv'",
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "EXPLAIN COPY calls TO '/tmp/x.csv'",
            "EXPLAIN ANALYZE INSERT INTO calls VALUES (1)",
            "SET datafusion.execution.batch_size = 1",
            "RESET datafusion.execution.batch_size",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "BEGIN",
            "USE other",
        ] {
            assert_eq!(parse_query(sql).unwrap_err().kind(), ErrorKind::Invalid, "{sql}");
        }
    }
}
