//! Where traces go: to a collector, by OTLP over HTTP.

use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

/// A provider whose spans are sent to the collector in batches, from a thread of its own, as
/// Protocol Buffers over HTTP.
///
/// `endpoint` is the collector's base URL, such as `http://127.0.0.1:4318`, with or without a slash
/// at its end; traces are taken there at `/v1/traces`. `service` is the `service.name` of all spans.
/// A trace that another service has begun is sampled as that service has decided. May be called
/// inside and outside of a runtime.
///
/// # Errors
/// When `endpoint` is no URL.
pub fn provider(endpoint: &str, service: &str) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        // A path of its own has to be given here: only the environment variable is a base URL.
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()?;
    let resource = Resource::builder()
        .with_service_name(service.to_owned())
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}
