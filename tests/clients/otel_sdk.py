"""Exports one trace, one log record and one counter through the OpenTelemetry Python SDK, as any application would.

Usage: otel_sdk.py grpc|http RUN. The address is in OTEL_EXPORTER_OTLP_ENDPOINT, as for any application.
Prints what was sent as one JSON object. RUN marks the service, so that runs can be told apart.
"""

import json
import logging
import sys

from opentelemetry import metrics, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind

protocol, run = sys.argv[1], sys.argv[2]
if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

# the exporters only log what fails: make that a failure of this program
failures = []
handler = logging.Handler(level=logging.ERROR)
handler.emit = lambda record: failures.append(record.getMessage())
logging.getLogger("opentelemetry").addHandler(handler)

service = f"python-{run}"
resource = Resource.create({"service.name": service, "spanledger.team": "sdk"})
tracing = TracerProvider(resource=resource)
tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
metering = MeterProvider(resource=resource, metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())])

tracer = tracing.get_tracer("sdk-test")
with tracer.start_as_current_span("answer the question") as root:
    usage = {"gen_ai.usage.input_tokens": 1200, "gen_ai.usage.output_tokens": 34}
    model = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-mini"}
    with tracer.start_as_current_span("chat gpt-5-mini", kind=SpanKind.CLIENT, attributes=model | usage):
        pass
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
    with tracer.start_as_current_span("execute_tool search", attributes=tool):
        pass
    logs.get_logger("sdk-test").emit(
        body="a question was answered", severity_number=SeverityNumber.INFO, event_name="question.answered"
    )
metering.get_meter("sdk-test").create_counter("questions").add(3, {"kind": "test"})

for provider in (tracing, logs, metering):
    if not provider.force_flush():
        failures.append(f"{type(provider).__name__} could not be flushed")
    provider.shutdown()
if failures:
    sys.exit("\n".join(failures))
print(json.dumps({"service": service, "trace_id": f"{root.get_span_context().trace_id:032x}", "spans": 3}))
