use super::number::shortest;
use super::*;

fn render_with(text: &str, labels: &Labels, value: f64) -> Result<String, String> {
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    let ask = |query: &str| match query {
        "up" => Ok(["b", "a"]
            .iter()
            .zip([1.0, 0.5])
            .map(|(job, value)| Sample {
                labels: Labels::named("up", [("job", *job)]),
                timestamp_ms: 0,
                value,
            })
            .collect()),
        "none" => Ok(Vec::new()),
        other => Err(format!("no metric of {other}")),
    };
    let data = TemplateData {
        labels,
        value,
        external_labels: &Labels::new([("region", "eu")]),
        external_url: "http://localhost:9090/prom",
    };
    template
        .render(data, &ask)
        .map_err(|error| error.to_string())
}

fn render(text: &str) -> String {
    let labels = Labels::new([("instance", "db-1:9100"), ("job", "api")]);
    render_with(text, &labels, 1_234_567.0).unwrap_or_else(|error| format!("error: {error}"))
}

#[test]
fn labels_values_and_functions_fill_a_text() {
    for (template, expected) in [
        ("plain", "plain"),
        ("{{ $labels.job }} at {{ $value }}", "api at 1.234567e+06"),
        ("{{ .Labels.instance }}{{ $labels.nope }}", "db-1:9100"),
        (
            "{{ $externalLabels.region }} {{ externalURL }} {{ pathPrefix }}",
            "eu http://localhost:9090/prom /prom",
        ),
        ("{{ $value | humanize }}", "1.235M"),
        ("{{ humanize1024 $value }}", "1.177Mi"),
        (
            "{{ humanizeDuration 3723.5 }} {{ humanizeDuration 0.0025 }}",
            "1h 2m 3s 2.5ms",
        ),
        ("{{ humanizePercentage 0.12345 }}", "12.35%"),
        (
            "{{ humanizeTimestamp 1700000000.5 }}",
            "2023-11-14 22:13:20.5 +0000 UTC",
        ),
        (
            "{{ printf \"%.2f|%8.1f|%-5s|%05d|%q\" $value 2.25 \"x\" 42 \"y\" }}",
            "1234567.00|     2.2|x    |00042|\"y\"",
        ),
        (
            "{{ \"rate of errors\" | title | toUpper }}",
            "RATE OF ERRORS",
        ),
        (
            "{{ reReplaceAll \"(.*):(.*)\" \"$1 port $2\" $labels.instance }}",
            "db-1 port 9100",
        ),
        ("{{ stripPort $labels.instance }}", "db-1"),
        (
            "{{ if match \"^db\" $labels.instance }}db{{ else }}other{{ end }}",
            "db",
        ),
        ("{{- \" a \" -}}  x  {{- /* note */ -}}  y", " a xy"),
    ] {
        assert_eq!(render(template), expected, "{template}");
    }
}

#[test]
fn blocks_branch_and_loop() {
    for (template, expected) in [
        (
            "{{ if gt $value 5.0 }}high{{ else if gt $value 1.0 }}low{{ else }}none{{ end }}",
            "high",
        ),
        (
            "{{ if lt $value 5.0 }}a{{ else if lt $value 6.0 }}b{{ else }}c{{ end }}",
            "c",
        ),
        (
            "{{ range query \"up\" | sortByLabel \"job\" }}{{ .Labels.job }}={{ .Value }} {{ end }}",
            "a=0.5 b=1 ",
        ),
        (
            "{{ range $i, $s := query \"up\" }}{{ $i }}{{ label \"job\" $s }}{{ end }}",
            "0b1a",
        ),
        (
            "{{ range query \"none\" }}x{{ else }}empty{{ end }}",
            "empty",
        ),
        (
            "{{ with query \"up\" }}{{ . | first | value }}{{ end }}",
            "1",
        ),
        (
            "{{ with query \"none\" }}{{ . | first | value }}{{ end }}-",
            "-",
        ),
        (
            "{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}",
            "instance=db-1:9100;job=api;",
        ),
        (
            "{{ $n := 0.0 }}{{ range query \"up\" }}{{ $n = .Value }}{{ end }}{{ $n }}",
            "0.5",
        ),
        (
            "{{ range query \"up\" }}{{ .Value }}{{ break }}{{ end }}",
            "1",
        ),
        (
            "{{ and 1 0 }} {{ or 0 \"x\" }} {{ not 0 }} {{ eq \"a\" \"b\" \"a\" }}",
            "0 x true true",
        ),
    ] {
        assert_eq!(render(template), expected, "{template}");
    }
}

#[test]
fn what_does_not_parse_says_where_and_what_to_do() {
    for (template, parts) in [
        (
            "{{ $label.job }}",
            ["undefined variable `$label`", "$labels"],
        ),
        (
            "{{ humanise $value }}",
            ["function `humanise` is not defined", "`humanize`"],
        ),
        (
            "{{ job }}",
            ["function `job` is not defined", "double quotes"],
        ),
        ("{{ $value", ["does not end", "`}}`"]),
        ("{{ if $value }}x", ["`if` does not end", "{{ end }}"]),
        ("{{ end }}", ["`end` ends nothing", "take it away"]),
        ("{{ if $value > 5 }}x{{ end }}", ["`>`", "gt $value"]),
        ("{{ printf \"%d }}", ["does not end", "double quote"]),
        ("{{ }}", ["no value", "name a variable"]),
        ("{{ template \"x\" }}", ["not taken", "write the text out"]),
        ("{{ 'single' }}", ["one character", "double quotes"]),
        ("{{ $value | }}", ["nothing follows", "function"]),
    ] {
        let error = Template::parse(template).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{template}: {error}");
        }
    }
}

#[test]
fn what_fails_at_run_time_in_prometheus_fails_here() {
    for (template, part) in [
        (
            "{{ if gt $value 5 }}x{{ end }}",
            "compare it with one, as in `5.0`",
        ),
        ("{{ title $value }}", "expected string; got float64"),
        ("{{ title }}", "want 1 got 0"),
        ("{{ .Nope }}", "can't evaluate field Nope"),
        (
            "{{ $labels.job.x }}",
            "can't evaluate field x in type string",
        ),
        ("{{ query \"none\" | first }}", "no elements"),
        ("{{ query \"broken(\" }}", "no metric of broken("),
        ("{{ $value 3 }}", "can't give argument to non-function"),
        ("{{ range $value }}{{ end }}", "can't iterate over float64"),
        ("{{ reReplaceAll \"(\" \"\" \"\" }}", "unclosed group"),
    ] {
        let text = render(template);
        assert!(
            text.starts_with("error: ") && text.contains(part),
            "{template}: {text}"
        );
    }
}

#[test]
fn loops_in_loops_end() {
    let loops = 20;
    let template = format!(
        "{}x{}",
        "{{ range query \"up\" }}".repeat(loops),
        "{{ end }}".repeat(loops)
    );
    let text = render(&template);
    assert!(text.contains("goes round too often"), "{text}");
}

#[test]
fn numbers_print_as_go_prints_them() {
    for (value, expected) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (100_000.0, "100000"),
        (1_000_000.0, "1e+06"),
        (123_456_789.0, "1.23456789e+08"),
        (0.0001, "0.0001"),
        (0.000_01, "1e-05"),
        (1.5, "1.5"),
        (f64::INFINITY, "+Inf"),
        (f64::NAN, "NaN"),
    ] {
        assert_eq!(shortest(value), expected);
    }
    assert_eq!(number::significant(999.99, 4), "1000");
    assert_eq!(number::significant(123_456.0, 4), "1.235e+05");
    assert_eq!(number::significant(0.0, 4), "0");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_template_panic(text in "(\\{\\{|\\}\\}|[-a-z$.|()\"`' /*:=0-9]|if |end|range |\\$value|query \"up\"|printf ){0,25}") {
        let _ = render(&text);
    }
}
