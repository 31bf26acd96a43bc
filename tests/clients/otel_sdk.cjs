// Exports one trace, one log record and one counter through the OpenTelemetry JavaScript SDK, as any application would.
//
// Usage: otel_sdk.cjs grpc|http-protobuf|http-json RUN. The address is in OTEL_EXPORTER_OTLP_ENDPOINT.
// Prints what was sent as one JSON object. RUN marks the service, so that runs can be told apart.
"use strict";

const { context, diag, DiagLogLevel, SpanKind, trace } = require("@opentelemetry/api");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const sdkTrace = require("@opentelemetry/sdk-trace");
const sdkLogs = require("@opentelemetry/sdk-logs");
const sdkMetrics = require("@opentelemetry/sdk-metrics");

const [protocol, run] = process.argv.slice(2);
const suffix = { grpc: "grpc", "http-protobuf": "proto", "http-json": "http" }[protocol];
const { OTLPTraceExporter } = require(`@opentelemetry/exporter-trace-otlp-${suffix}`);
const { OTLPLogExporter } = require(`@opentelemetry/exporter-logs-otlp-${suffix}`);
const { OTLPMetricExporter } = require(`@opentelemetry/exporter-metrics-otlp-${suffix}`);

// the exporters only report what fails: make that a failure of this program
const failures = [];
const note = (...parts) => failures.push(parts.map(String).join(" "));
const ignore = () => {};
diag.setLogger({ error: note, warn: note, info: ignore, debug: ignore, verbose: ignore }, DiagLogLevel.WARN);

const service = `javascript-${run}`;
const resource = resourceFromAttributes({ "service.name": service, "spanledger.team": "sdk" });
const batch = (Processor, exporter) => [new Processor({ exporter })];
const tracing = new sdkTrace.TracerProvider({
  resource,
  spanProcessors: batch(sdkTrace.BatchSpanProcessor, new OTLPTraceExporter()),
});
const logs = new sdkLogs.LoggerProvider({
  resource,
  processors: batch(sdkLogs.BatchLogRecordProcessor, new OTLPLogExporter()),
});
const metering = new sdkMetrics.MeterProvider({
  resource,
  readers: batch(sdkMetrics.PeriodicExportingMetricReader, new OTLPMetricExporter()),
});

async function main() {
  const tracer = tracing.getTracer("sdk-test");
  const root = tracer.startSpan("answer the question");
  const inside = trace.setSpan(context.active(), root);
  const chat = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5-mini",
    "gen_ai.usage.input_tokens": 1200,
    "gen_ai.usage.output_tokens": 34,
  };
  tracer.startSpan("chat gpt-5-mini", { kind: SpanKind.CLIENT, attributes: chat }, inside).end();
  const tool = { "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search" };
  tracer.startSpan("execute_tool search", { attributes: tool }, inside).end();
  root.end();
  const record = { body: "a question was answered", severityNumber: 9, eventName: "question.answered", context: inside };
  logs.getLogger("sdk-test").emit(record);
  metering.getMeter("sdk-test").createCounter("questions").add(3, { kind: "test" });
  for (const provider of [tracing, logs, metering]) {
    await provider.forceFlush();
    await provider.shutdown();
  }
  if (failures.length > 0) throw new Error(failures.join("\n"));
  console.log(JSON.stringify({ service, trace_id: root.spanContext().traceId, spans: 3 }));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
