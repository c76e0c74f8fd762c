use websocket_metrics as subject;
#[path = "../../../../harness/checks/18-observability/18_1_4.rs"]
mod check;
