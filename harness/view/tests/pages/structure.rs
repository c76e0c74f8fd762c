//! Whatever is drawn is one well-formed page, needs nothing from elsewhere, and holds what a dump
//! says as text.

use scraper::{ElementRef, Html, Selector};

use crate::exhibits::{self, Exhibit};

fn all(page: &Html, selector: &str) -> usize {
    select(page, selector).count()
}

fn select<'a>(page: &'a Html, selector: &str) -> impl Iterator<Item = ElementRef<'a>> {
    let selector = Selector::parse(selector).expect("a selector of ours");
    page.select(&selector).collect::<Vec<_>>().into_iter()
}

/// Elements and attributes that make a browser fetch something.
const FETCHING: &str = "img, iframe, object, embed, audio, video, source, track, base, \
                        link:not([href='data:,']), image, use, feImage, script[src], form[action], \
                        [srcset], [background], [poster], [ping]";

#[track_caller]
fn check(exhibit: &Exhibit) -> String {
    let text = exhibit.page();
    let name = &exhibit.name;
    let page = Html::parse_document(&text);
    // What a parser has to repair is no well-formed page.
    assert!(page.errors.is_empty(), "{name}: {:?}", page.errors);
    assert_eq!(all(&page, FETCHING), 0, "{name} fetches something");
    for element in select(&page, "*") {
        for (attribute, value) in element.value().attrs() {
            let what = element.value().name();
            assert!(
                !attribute.starts_with("on"),
                "{name}: <{what}> runs code of `{attribute}`"
            );
            if ["href", "src", "xlink:href", "action"].contains(&attribute) {
                assert!(
                    value.starts_with('#') || value == "data:,",
                    "{name}: <{what}> refers to {value}"
                );
            }
            if attribute == "style" {
                assert!(!value.contains("url("), "{name}: {value}");
            }
        }
    }
    for style in select(&page, "style") {
        let style: String = style.text().collect();
        assert!(
            !style.contains("url(") && !style.contains("@import"),
            "{name}"
        );
    }
    // One script of ours; the others are data.
    assert_eq!(all(&page, "script:not([type])"), 1, "{name}");
    assert_eq!(
        all(&page, "script"),
        1 + all(&page, "script[type='application/json']"),
        "{name}"
    );
    let policy = select(&page, "meta[http-equiv='Content-Security-Policy']").next();
    let policy = policy.and_then(|meta| meta.value().attr("content"));
    assert!(
        policy.is_some_and(|policy| policy.starts_with("default-src 'none'")),
        "{name}: {policy:?}"
    );
    ids_are_unique(name, &page);
    pictures_are_told(name, &page);
    text
}

#[track_caller]
fn ids_are_unique(name: &str, page: &Html) {
    let mut ids: Vec<&str> = select(page, "[id]")
        .filter_map(|element| element.value().attr("id"))
        .collect();
    ids.sort_unstable();
    let twice = ids.windows(2).find(|pair| pair[0] == pair[1]);
    assert!(twice.is_none(), "{name}: {twice:?}");
    for link in select(page, "a[href^='#']") {
        let target = &link.value().attr("href").unwrap_or_default()[1..];
        assert!(ids.contains(&target), "{name}: no {target}");
    }
}

/// Every picture says what it shows, and stands in a figure with its values in a table.
#[track_caller]
fn pictures_are_told(name: &str, page: &Html) {
    for picture in select(page, "[role='img']") {
        let label = picture.value().attr("aria-label").unwrap_or_default();
        assert!(label.len() > 10, "{name}: a picture without words");
    }
    for picture in select(page, "svg") {
        let value = picture.value();
        let told = value.attr("aria-hidden").is_some()
            || value.attr("role") == Some("img")
            || value.attr("class") == Some("frames");
        assert!(
            told,
            "{name}: {}",
            picture.html().chars().take(200).collect::<String>()
        );
    }
    let table = Selector::parse("table").expect("a selector of ours");
    for figure in select(page, ".card figure, .flame") {
        assert!(
            figure.select(&table).next().is_some(),
            "{name}: a figure without its values"
        );
    }
}

#[test]
fn the_parser_notices_what_is_not_well_formed() {
    assert!(
        !Html::parse_document("<!DOCTYPE html><p></div>")
            .errors
            .is_empty()
    );
}

#[test]
fn every_dump_of_the_repository_becomes_a_page() {
    let exhibits = exhibits::fixtures();
    assert!(!exhibits.is_empty());
    for exhibit in exhibits {
        let text = check(&exhibit);
        assert!(
            !text.contains("class=\"problem\""),
            "{}: a dump of ours cannot be read",
            exhibit.name
        );
    }
}

#[test]
fn every_variant_becomes_a_page() {
    let exhibits = exhibits::variants();
    assert!(!exhibits.is_empty());
    for exhibit in exhibits {
        let text = check(&exhibit);
        assert!(!text.contains("class=\"problem\""), "{}", exhibit.name);
    }
}

#[test]
fn every_kind_of_dump_becomes_a_page_of_its_own() {
    for (exhibit, parts) in exhibits::kinds().iter().zip([
        &[
            ".card figure svg.wide polyline",
            ".legend input",
            ".card svg.spark",
        ][..],
        &[".card table", ".card figure svg.wide rect"],
        &[".log tbody tr.error .level", ".columns input"],
        &[
            ".waterfall .span .bar",
            ".waterfall .span .opened dl",
            "table a[href^='#trace-']",
        ],
        &[".flame svg.frames g g rect", ".flame table"],
        &[".grouping .group .stack", ".grouping small"],
        &[".listing li", ".problem"],
        &[
            ".dashboard .panel .stat.color-red small",
            ".dashboard svg.wide polyline",
        ],
        &[
            ".dashboard .panel .stat.color-red small",
            ".dashboard svg.wide polyline",
            ".heading",
        ],
    ]) {
        let page = Html::parse_document(&check(exhibit));
        for part in parts {
            assert!(all(&page, part) > 0, "{} has no {part}", exhibit.name);
        }
    }
}

#[test]
fn nothing_that_a_dump_says_becomes_markup() {
    let text = check(&exhibits::hostile());
    let page = Html::parse_document(&text);
    assert_eq!(all(&page, "img"), 0);
    let title: String = select(&page, "title")
        .next()
        .expect("a title")
        .text()
        .collect();
    assert_eq!(title, "hostile");
    // It is there, and it is text.
    let body: String = page.root_element().text().collect();
    assert!(body.matches("document.title='broken'").count() > 10);
}

#[test]
fn fifty_megabytes_of_metrics_become_a_page_of_a_few() {
    use std::fmt::Write as _;
    const SERIES: usize = 300;
    const SCRAPES: usize = 2_000;
    let mut text = String::with_capacity(56 << 20);
    text.push_str("# TYPE requests counter\n");
    for series in 0..SERIES {
        for scrape in 0..SCRAPES {
            let count = scrape * (series + 1) + usize::from(scrape == 1_234) * 90_000;
            let at = 1_764_315_000 + 15 * scrape;
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "requests_total{{instance=\"shop-{series:03}.eu-1.example.org:9090\",route=\"/checkout\"}} {count} {at}"
            );
        }
    }
    text.push_str("# EOF\n");
    assert!(text.len() > 50 << 20, "{}", text.len());
    let dump = view::Dump {
        name: "metrics.om".into(),
        bytes: text.into_bytes(),
    };
    let page = view::Page {
        title: "large",
        dumps: &[dump],
        ..view::Page::default()
    };
    let page = page.draw();
    assert!(page.len() < 3 << 20, "{} bytes", page.len());
    assert!(page.contains("The 8 of 300 series"), "the widest are drawn");
    assert!(!page.contains("class=\"problem\""));
}
