//! Answers in every format, compared with what they should look like.

use datafusion::arrow::ipc::reader::StreamReader;

use super::{Fixture, written};
use crate::engine::ResultSet;
use crate::format::{Format, write};

const SQL: &str = "SELECT * FROM (VALUES \
    ('search', CAST(10 AS BIGINT), CAST('0.120' AS DECIMAL(38,15)), arrow_cast('2026-11-22T10:00:00.5', 'Timestamp(Microsecond, Some(\"UTC\"))'), CAST('2026-11-22' AS DATE), true), \
    ('a|b,\"c\"', CAST(NULL AS BIGINT), CAST('-1' AS DECIMAL(38,15)), NULL, NULL, false)) \
    AS t(tool, calls, cost, at, day, ok)";

async fn result() -> ResultSet {
    Fixture::empty()
        .await
        .ask(SQL)
        .await
        .unwrap_or_else(|error| panic!("{}", error.detail()))
}

#[tokio::test]
async fn text_formats_look_as_promised() {
    let result = result().await;
    for (format, expected) in [
        (
            Format::Json,
            "[\n{\"tool\":\"search\",\"calls\":10,\"cost\":\"0.12\",\"at\":\"2026-11-22T10:00:00.500Z\",\"day\":\"2026-11-22\",\"ok\":true},\n\
             {\"tool\":\"a|b,\\\"c\\\"\",\"calls\":null,\"cost\":\"-1\",\"at\":null,\"day\":null,\"ok\":false}\n]\n",
        ),
        (
            Format::Ndjson,
            "{\"tool\":\"search\",\"calls\":10,\"cost\":\"0.12\",\"at\":\"2026-11-22T10:00:00.500Z\",\"day\":\"2026-11-22\",\"ok\":true}\n\
             {\"tool\":\"a|b,\\\"c\\\"\",\"calls\":null,\"cost\":\"-1\",\"at\":null,\"day\":null,\"ok\":false}\n",
        ),
        (
            Format::Csv,
            "tool,calls,cost,at,day,ok\r\nsearch,10,0.12,2026-11-22T10:00:00.500Z,2026-11-22,true\r\n\"a|b,\"\"c\"\"\",,-1,,,false\r\n",
        ),
        (
            Format::Table,
            "tool     calls  cost  at                        day         ok\n\
             ───────  ─────  ────  ────────────────────────  ──────────  ─────\n\
             search      10  0.12  2026-11-22T10:00:00.500Z  2026-11-22  true\n\
             a|b,\"c\"   NULL    -1  NULL                      NULL        false\n",
        ),
        (
            Format::Markdown,
            "| tool | calls | cost | at | day | ok |\n| --- | ---: | ---: | --- | --- | --- |\n\
             | search | 10 | 0.12 | 2026-11-22T10:00:00.500Z | 2026-11-22 | true |\n| a\\|b,\"c\" |  | -1 |  |  | false |\n",
        ),
    ] {
        assert_eq!(written(&result, format), expected, "{}", format.name());
    }
}

#[tokio::test]
async fn an_answer_without_rows_keeps_its_columns() {
    let fixture = Fixture::empty().await;
    let result = fixture.ask("SELECT call_id, own_cost FROM calls").await.unwrap();
    assert_eq!(written(&result, Format::Json), "[]\n");
    assert_eq!(written(&result, Format::Csv), "call_id,own_cost\r\n");
}

#[tokio::test]
async fn binary_formats_are_read_back() {
    let result = result().await;
    let mut arrow = Vec::new();
    write(&result, Format::Arrow, &mut arrow).unwrap();
    let reader = StreamReader::try_new(arrow.as_slice(), None).unwrap();
    assert_eq!(reader.schema(), result.schema);
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);

    let mut file = Vec::new();
    write(&result, Format::Parquet, &mut file).unwrap();
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 2);
}

#[tokio::test]
async fn nested_values_become_json() {
    let fixture = Fixture::filled().await;
    let sql = "SELECT attributes, events[1]['name'] AS event, [1, 2] AS list, CAST('NaN' AS DOUBLE) AS nan, 1.5::double AS half \
               FROM spans WHERE span_id = '0000000000000001'";
    let result = fixture
        .ask(sql)
        .await
        .unwrap_or_else(|error| panic!("{}", error.detail()));
    assert_eq!(
        written(&result, Format::Ndjson),
        "{\"attributes\":{\"http.route\":\"mine\"},\"event\":\"mine\",\"list\":[1,2],\"nan\":null,\"half\":1.5}\n"
    );
}

#[tokio::test]
async fn columns_of_the_same_name_keep_both_values() {
    let fixture = Fixture::filled().await;
    let sql = "SELECT a.kind, b.kind FROM calls a JOIN calls b ON a.parent_span_id = b.span_id WHERE a.kind = 'tool'";
    let result = fixture
        .ask(sql)
        .await
        .unwrap_or_else(|error| panic!("{}", error.detail()));
    assert_eq!(
        written(&result, Format::Ndjson),
        "{\"kind\":\"tool\",\"kind_2\":\"agent\"}\n"
    );
}
