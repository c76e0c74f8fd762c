//! Pictures: lines, heat maps, bars and columns, each drawn for a wide and for a narrow screen.
//!
//! A picture that is scaled down to a phone has labels that nobody can read, so each is drawn twice
//! and the style sheet shows the one that fits. Colors are inks with a name: the style sheet gives
//! each its shade, by daylight and in the dark. No text of a dump is drawn here; names stand in
//! the page around a picture.

use std::error::Error;
use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::scale::{self, Point};
use crate::units::{self, Scale};

/// How many lines one chart can hold apart.
pub const MOST_LINES: usize = 8;

/// A color with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// One of [`MOST_LINES`] lines.
    Line(usize),
    /// Cells of a heat map, and bars.
    Heat,
    /// A line of a log at a level.
    Level(Level),
    /// Labels of an axis.
    Label,
    /// An axis.
    Axis,
    /// Lines of a grid.
    Grid,
}

/// How grave a line of a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Error, fatal, critical, panic.
    Error,
    /// Warning.
    Warn,
    /// Info, notice.
    Info,
    /// Debug, trace.
    Debug,
    /// Something else, or nothing.
    Other,
}

impl Level {
    /// From the gravest down.
    pub const ALL: [Self; 5] = [
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Other,
    ];

    /// The word for it, which is a class of the style sheet too.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Other => "other",
        }
    }
}

/// Each ink: its name in the style sheet, its shade by daylight and in the dark. The shades of the
/// lines are those of Okabe and Ito, which people with any color vision tell apart.
const INKS: [(&str, &str, &str); 17] = [
    ("line-0", "#0072B2", "#56A9E8"),
    ("line-1", "#D55E00", "#FF8F50"),
    ("line-2", "#009E73", "#35CF9F"),
    ("line-3", "#C0589A", "#EBA0CC"),
    ("line-4", "#B07A00", "#F2BE4B"),
    ("line-5", "#2F9BD0", "#9ADCFF"),
    ("line-6", "#6B4A8E", "#BB9AE0"),
    ("line-7", "#4D4D4D", "#C4C4C4"),
    ("heat", "#0B5CAD", "#5AB0FF"),
    ("level-error", "#C6222B", "#FF7B72"),
    ("level-warn", "#9E6200", "#E3B341"),
    ("level-info", "#1767C2", "#6CB6FF"),
    ("level-debug", "#6C757E", "#8C96A1"),
    ("level-other", "#7B848D", "#77818C"),
    ("label", "#57606A", "#A8B2BD"),
    ("axis", "#8C959F", "#6B7580"),
    ("grid", "#E1E6EB", "#2E353D"),
];

impl Ink {
    fn place(self) -> usize {
        match self {
            Self::Line(nth) => nth % MOST_LINES,
            Self::Heat => 8,
            Self::Level(level) => 9 + level as usize,
            Self::Label => 14,
            Self::Axis => 15,
            Self::Grid => 16,
        }
    }

    /// The name of its variable in the style sheet, without the dashes in front.
    pub fn name(self) -> &'static str {
        INKS[self.place()].0
    }

    /// What a picture says for it: its shade by daylight, which the style sheet replaces.
    pub fn code(self) -> &'static str {
        INKS[self.place()].1
    }

    fn rgb(self) -> RGBColor {
        let code = self.code();
        let part = |at| u8::from_str_radix(&code[at..at + 2], 16).unwrap_or_default();
        RGBColor(part(1), part(3), part(5))
    }
}

/// The part of the style sheet that gives the inks their shades.
pub fn ink_styles() -> String {
    let mut light = String::new();
    let mut dark = String::new();
    let mut rules = String::new();
    for (name, by_day, by_night) in INKS {
        // Writing into a String cannot fail.
        let _ = write!(light, "--{name}:{by_day};");
        let _ = write!(dark, "--{name}:{by_night};");
        let _ = writeln!(
            rules,
            ".chart [stroke=\"{by_day}\"]{{stroke:var(--{name})}}\
             .chart [fill=\"{by_day}\"]{{fill:var(--{name})}}"
        );
    }
    // Every other line is dashed, so that color is not all that tells two of them apart.
    for (nth, (_, code, _)) in INKS.iter().enumerate().take(MOST_LINES) {
        let dashes = match nth {
            4..=5 => "7 3",
            6..=7 => "2 3",
            _ => continue,
        };
        let _ = writeln!(
            rules,
            ".chart polyline[stroke=\"{code}\"],.swatch [stroke=\"{code}\"]\
             {{stroke-dasharray:{dashes}}}"
        );
    }
    format!(":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{rules}")
}

/// The widths that a picture is drawn for.
#[derive(Debug, Clone, Copy)]
struct Canvas {
    class: &'static str,
    width: u32,
    height: u32,
    time_ticks: usize,
}

const WIDE: Canvas = Canvas {
    class: "chart wide",
    width: 1040,
    height: 240,
    time_ticks: 9,
};
const NARROW: Canvas = Canvas {
    class: "chart narrow",
    width: 328,
    height: 210,
    time_ticks: 4,
};

/// Labels are drawn at 15 / 1.24 = 12 pixels (the backend divides), and a digit takes about 7.
const LABEL_SIZE: u32 = 15;
const DIGIT: u32 = 7;

fn label_style(h: HPos, v: VPos) -> TextStyle<'static> {
    ("sans-serif", LABEL_SIZE)
        .into_font()
        .color(&Ink::Label.rgb())
        .pos(Pos::new(h, v))
}

/// An axis with ticks of ours: where they stand, and what they say.
#[derive(Clone)]
struct Ticks {
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

impl Ticks {
    /// A time axis in UTC.
    fn of_time((from, to): (f64, f64), most: usize) -> Self {
        Self {
            low: from,
            high: to,
            ticks: scale::time_ticks(from, to, most),
        }
    }

    /// An axis of values.
    fn of_values(low: f64, high: f64, most: usize) -> Self {
        let (ticks, step) = scale::ticks(low, high, most);
        Self {
            low,
            high,
            ticks: ticks
                .into_iter()
                .map(|at| (at, units::tick(at, step)))
                .collect(),
        }
    }

    /// An axis of whole things, from none.
    fn of_counts(most: f64) -> Self {
        let whole = |ticks: &usize| scale::ticks(0.0, most, *ticks).1.fract() == 0.0;
        Self::of_values(0.0, most, [4, 3, 5, 2].into_iter().find(whole).unwrap_or(2))
    }

    /// An axis of rows, each named in its middle, from the bottom up.
    fn of_rows(names: impl Iterator<Item = String>) -> Self {
        let ticks: Vec<(f64, String)> = names
            .enumerate()
            .map(|(nth, name)| (nth as f64 + 0.5, name))
            .collect();
        Self {
            low: 0.0,
            high: ticks.len().max(1) as f64,
            ticks,
        }
    }

    /// How much room the labels take beside a chart, in pixels.
    fn room(&self) -> u32 {
        let widest = self.ticks.iter().map(|(_, label)| label.chars().count());
        DIGIT * widest.max().unwrap_or(1) as u32 + 12
    }
}

impl Ranged for Ticks {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight().allow_light_points() {
            true => Vec::new(),
            false => self.ticks.iter().map(|(at, _)| *at).collect(),
        }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Ticks {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(at, _)| at == value);
        tick.map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

type Drawn = Result<(), Box<dyn Error>>;

/// Draws for both widths, at this height; `label` is what a screen reader says instead.
fn both(label: &str, height: u32, draw: impl Fn(&mut String, Canvas) -> Drawn) -> Markup {
    let of_height = |canvas: Canvas| Canvas { height, ..canvas };
    html! {
        @for canvas in [WIDE, NARROW].map(of_height) { (picture(label, canvas, &draw)) }
    }
}

fn picture(label: &str, canvas: Canvas, draw: &impl Fn(&mut String, Canvas) -> Drawn) -> Markup {
    let mut svg = String::new();
    if let Err(error) = draw(&mut svg, canvas) {
        return html! { p.problem { "This chart could not be drawn: " (error.to_string()) } };
    }
    html! {
        svg class=(canvas.class) role="img" aria-label=(label)
            viewBox=(format!("0 0 {} {}", canvas.width, canvas.height))
            width=(canvas.width) height=(canvas.height) {
            (PreEscaped(without_root(&svg)))
        }
    }
}

/// What stands within the outermost element of a document of ours.
fn without_root(svg: &str) -> &str {
    let inner = svg.split_once('>').map_or("", |(_, inner)| inner);
    inner
        .rsplit_once("</svg>")
        .map_or(inner, |(inner, _)| inner)
}

/// Some lines over time.
#[derive(Debug)]
pub struct Lines<'a> {
    /// What the picture shows, for those who do not see it.
    pub label: String,
    /// The first and the last moment of the axis.
    pub span: (f64, f64),
    /// The unit of the values' axis.
    pub scale: Scale,
    /// The points of each line in time, in the unit of the dump; at most [`MOST_LINES`].
    pub lines: Vec<&'a [Point]>,
    /// Levels to mark across the chart, in the unit of the dump.
    pub thresholds: Vec<(f64, Ink)>,
    /// How many columns of the chart may hold points of their own.
    pub columns: usize,
    /// Width and height on a wide screen, in pixels.
    pub size: (u32, u32),
}

/// The size of a chart that has the width of the page to itself.
pub const WHOLE_WIDTH: (u32, u32) = (WIDE.width, WIDE.height);

impl Lines<'_> {
    /// Draws the chart.
    pub fn draw(&self) -> Markup {
        let (width, height) = self.size;
        let wide = Canvas {
            width,
            height,
            time_ticks: (width as usize / 115).max(2),
            ..WIDE
        };
        let draw = |svg: &mut String, canvas| self.draw_on(svg, canvas);
        html! {
            @for canvas in [wide, NARROW] { (picture(&self.label, canvas, &draw)) }
        }
    }

    fn draw_on(&self, svg: &mut String, canvas: Canvas) -> Drawn {
        let factor = self.scale.factor;
        let values = self.lines.iter().flat_map(|line| line.iter());
        let levels = self.thresholds.iter().map(|(level, _)| *level);
        let (low, high) = scale::range(
            values
                .map(|(_, value)| *value)
                .chain(levels)
                .map(|v| v * factor),
        );
        let (from, to) = widened(self.span);
        let times = Ticks::of_time((from, to), canvas.time_ticks);
        let values = match self.scale.moments {
            true => Ticks::of_time((low, high), 5),
            false => Ticks::of_values(low, high, 5),
        };
        let room = values.room();
        let root = SVGBackend::with_string(svg, (canvas.width, canvas.height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_top(8)
            .margin_right(22)
            .x_label_area_size(26)
            .y_label_area_size(room)
            .build_cartesian_2d(times, values)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(Ink::Grid.rgb())
            .light_line_style(TRANSPARENT)
            .axis_style(Ink::Axis.rgb())
            .x_label_style(label_style(HPos::Center, VPos::Top))
            .y_label_style(label_style(HPos::Right, VPos::Center))
            .draw()?;
        for (level, ink) in &self.thresholds {
            let level = level * factor;
            let points = [(from, level), (to, level)];
            chart.draw_series([PathElement::new(points, ink.rgb().stroke_width(1))])?;
        }
        let columns = self
            .columns
            .min(canvas.width.saturating_sub(room).max(1) as usize);
        for (nth, line) in self.lines.iter().enumerate() {
            let ink = Ink::Line(nth).rgb();
            for segment in scale::segments(line) {
                let points: Vec<Point> = scale::downsample(&segment, from, to, columns)
                    .into_iter()
                    .map(|(at, value)| (at, value * factor))
                    .collect();
                match points.as_slice() {
                    [alone] => {
                        chart.draw_series([Circle::new(*alone, 2, ink.filled())])?;
                    }
                    _ => {
                        chart.draw_series([PathElement::new(points, ink.stroke_width(2))])?;
                    }
                }
            }
        }
        root.present()?;
        Ok(())
    }
}

/// A line so small that it needs no axis, for a row of a table.
pub fn sparkline(points: &[Point], span: (f64, f64)) -> Markup {
    const SIZE: (u32, u32) = (140, 28);
    const COLUMNS: usize = 40;
    let draw = |svg: &mut String| -> Drawn {
        let (from, to) = widened(span);
        let (low, high) = scale::range(points.iter().map(|(_, value)| *value));
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(2)
            .build_cartesian_2d(from..to, low..high)?;
        for segment in scale::segments(points) {
            let points = scale::downsample(&segment, from, to, COLUMNS);
            chart.draw_series([PathElement::new(points, Ink::Line(0).rgb().stroke_width(1))])?;
        }
        root.present()?;
        Ok(())
    };
    let mut svg = String::new();
    match draw(&mut svg) {
        Ok(()) => html! {
            svg.chart.spark aria-hidden="true" width=(SIZE.0) height=(SIZE.1)
                viewBox=(format!("0 0 {} {}", SIZE.0, SIZE.1)) {
                (PreEscaped(without_root(&svg)))
            }
        },
        Err(_) => html! { "—" },
    }
}

/// How many observations fell into each bucket, over time.
#[derive(Debug)]
pub struct HeatMap {
    /// What the picture shows, for those who do not see it.
    pub label: String,
    /// The first and the last moment of the axis.
    pub span: (f64, f64),
    /// The names of the buckets, from the lowest up.
    pub rows: Vec<String>,
    /// In time.
    pub steps: Vec<HeatStep>,
}

/// What fell into the buckets from one scrape to the next.
#[derive(Debug, Clone)]
pub struct HeatStep {
    /// The scrape before.
    pub from: f64,
    /// This scrape.
    pub to: f64,
    /// Observations in each bucket.
    pub cells: Vec<f64>,
}

impl HeatMap {
    /// Draws the map; the stronger the color, the more observations, on a logarithmic scale.
    pub fn draw(&self) -> Markup {
        let height = 44 + 18 * self.rows.len() as u32;
        both(&self.label, height, |svg, canvas| self.draw_on(svg, canvas))
    }

    fn draw_on(&self, svg: &mut String, canvas: Canvas) -> Drawn {
        let times = Ticks::of_time(widened(self.span), canvas.time_ticks);
        let rows = Ticks::of_rows(self.rows.iter().cloned());
        let room = rows.room();
        let steps = self.merged((canvas.width.saturating_sub(room) / 4).max(1) as usize);
        let most = steps
            .iter()
            .flat_map(|step| step.cells.iter().copied())
            .fold(0.0, f64::max);
        let root = SVGBackend::with_string(svg, (canvas.width, canvas.height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_top(8)
            .margin_right(22)
            .x_label_area_size(26)
            .y_label_area_size(room)
            .build_cartesian_2d(times, rows)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(Ink::Axis.rgb())
            .x_label_style(label_style(HPos::Center, VPos::Top))
            .y_label_style(label_style(HPos::Right, VPos::Center))
            .draw()?;
        for step in &steps {
            for (row, count) in step.cells.iter().enumerate().filter(|(_, n)| **n > 0.0) {
                let share = count.ln_1p() / most.ln_1p();
                let strength = (12.0 + 88.0 * share).round() / 100.0;
                let corners = [(step.from, row as f64), (step.to, row as f64 + 1.0)];
                chart.draw_series([Rectangle::new(
                    corners,
                    Ink::Heat.rgb().mix(strength).filled(),
                )])?;
            }
        }
        root.present()?;
        Ok(())
    }

    /// At most `columns` steps, each the sum of its neighbors.
    fn merged(&self, columns: usize) -> Vec<HeatStep> {
        let size = self.steps.len().div_ceil(columns).max(1);
        self.steps
            .chunks(size)
            .map(|group| {
                let mut sum = group[0].clone();
                for step in &group[1..] {
                    sum.to = step.to;
                    for (cell, more) in sum.cells.iter_mut().zip(&step.cells) {
                        *cell += more;
                    }
                }
                sum
            })
            .collect()
    }
}

/// A size for each of some names, as bars that lie.
#[derive(Debug)]
pub struct Bars {
    /// What the picture shows, for those who do not see it.
    pub label: String,
    /// Name and size, from the top down.
    pub bars: Vec<(String, f64)>,
}

impl Bars {
    /// Draws the bars with their sizes at the end.
    pub fn draw(&self) -> Markup {
        let height = 12 + 22 * self.bars.len() as u32;
        both(&self.label, height, |svg, canvas| self.draw_on(svg, canvas))
    }

    fn draw_on(&self, svg: &mut String, canvas: Canvas) -> Drawn {
        // The first bar stands at the top, and the axis counts from the bottom.
        let rows = Ticks::of_rows(self.bars.iter().rev().map(|(name, _)| name.clone()));
        let room = rows.room();
        let sizes: Vec<String> = self.bars.iter().map(|(_, n)| units::number(*n)).collect();
        let right = DIGIT * sizes.iter().map(String::len).max().unwrap_or(1) as u32 + 10;
        let most = self
            .bars
            .iter()
            .map(|(_, size)| *size)
            .filter(|size| scale::drawable(*size))
            .fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let root = SVGBackend::with_string(svg, (canvas.width, canvas.height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_top(4)
            .margin_bottom(4)
            .margin_right(right)
            .y_label_area_size(room)
            .build_cartesian_2d(0.0..most, rows)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(Ink::Axis.rgb())
            .y_label_style(label_style(HPos::Right, VPos::Center))
            .x_labels(0)
            .draw()?;
        for (row, (_, size)) in self.bars.iter().enumerate() {
            let bottom = (self.bars.len() - 1 - row) as f64;
            let size = size.clamp(0.0, most);
            chart.draw_series([Rectangle::new(
                [(0.0, bottom + 0.18), (size, bottom + 0.82)],
                Ink::Heat.rgb().filled(),
            )])?;
            chart.draw_series([Text::new(
                format!(" {}", sizes[row]),
                (size, bottom + 0.5),
                label_style(HPos::Left, VPos::Center),
            )])?;
        }
        root.present()?;
        Ok(())
    }
}

/// How many things of each level happened, in equal parts of time, as columns that are stacked.
#[derive(Debug)]
pub struct Columns {
    /// What the picture shows, for those who do not see it.
    pub label: String,
    /// The first and the last moment of the axis.
    pub span: (f64, f64),
    /// When each thing happened, and its level.
    pub events: Vec<(f64, Level)>,
}

impl Columns {
    /// Draws the columns.
    pub fn draw(&self) -> Markup {
        both(&self.label, 130, |svg, canvas| self.draw_on(svg, canvas))
    }

    fn draw_on(&self, svg: &mut String, canvas: Canvas) -> Drawn {
        let (from, to) = widened(self.span);
        let columns = canvas.width as usize / 14;
        let mut counts = vec![[0u32; Level::ALL.len()]; columns];
        for (at, level) in &self.events {
            let column = ((at - from) / (to - from) * columns as f64) as usize;
            counts[column.min(columns - 1)][*level as usize] += 1;
        }
        let most = counts.iter().map(|levels| levels.iter().sum::<u32>()).max();
        let most = f64::from(most.unwrap_or(1).max(1));
        let times = Ticks::of_time((from, to), canvas.time_ticks);
        let values = Ticks::of_counts(most);
        let root = SVGBackend::with_string(svg, (canvas.width, canvas.height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_top(8)
            .margin_right(22)
            .x_label_area_size(26)
            .y_label_area_size(values.room())
            .build_cartesian_2d(times, values)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(Ink::Grid.rgb())
            .light_line_style(TRANSPARENT)
            .axis_style(Ink::Axis.rgb())
            .x_label_style(label_style(HPos::Center, VPos::Top))
            .y_label_style(label_style(HPos::Right, VPos::Center))
            .draw()?;
        let width = (to - from) / columns as f64;
        for (nth, levels) in counts.iter().enumerate() {
            let left = from + width * nth as f64;
            let mut bottom = 0.0;
            for level in Level::ALL {
                let count = f64::from(levels[level as usize]);
                if count > 0.0 {
                    chart.draw_series([Rectangle::new(
                        [
                            (left + 0.1 * width, bottom),
                            (left + 0.9 * width, bottom + count),
                        ],
                        Ink::Level(level).rgb().filled(),
                    )])?;
                    bottom += count;
                }
            }
        }
        root.present()?;
        Ok(())
    }
}

/// A span of time that is not empty.
fn widened((from, to): (f64, f64)) -> (f64, f64) {
    if to > from {
        (from, to)
    } else {
        (from - 0.5, from + 0.5)
    }
}

/// A piece of a line with its color and its dashes, for a legend.
pub fn swatch(ink: Ink) -> Markup {
    html! {
        svg.chart.swatch width="22" height="10" viewBox="0 0 22 10" aria-hidden="true" {
            line x1="1" y1="5" x2="21" y2="5" stroke=(ink.code()) stroke-width="3" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64]) -> Vec<Point> {
        (0..).map(f64::from).zip(values.iter().copied()).collect()
    }

    #[test]
    fn inks_have_shades_of_their_own() {
        let mut codes: Vec<&str> = INKS.iter().map(|(_, code, _)| *code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), INKS.len(), "the style sheet goes by the shade");
    }

    #[test]
    fn every_line_is_drawn_for_both_widths() {
        let (first, second) = (points(&[1.0, 5.0, 2.0]), points(&[3.0, 3.0, 3.0]));
        let chart = Lines {
            label: "two <lines>".into(),
            span: (0.0, 2.0),
            scale: Scale {
                factor: 1.0,
                label: String::new(),
                moments: false,
            },
            lines: vec![&first, &second],
            thresholds: vec![(4.0, Ink::Level(Level::Error))],
            columns: 100,
            size: WHOLE_WIDTH,
        };
        let svg = chart.draw().into_string();
        assert_eq!(svg.matches("<svg").count(), 2);
        for ink in [Ink::Line(0), Ink::Line(1)] {
            assert_eq!(svg.matches(ink.code()).count(), 2, "{ink:?}");
        }
        assert!(svg.contains("aria-label=\"two &lt;lines&gt;\""), "{svg}");
    }

    #[test]
    fn values_that_have_no_place_on_an_axis_do_not_stop_a_chart() {
        for values in [
            &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY][..],
            &[1e308, -1e308],
            &[],
            &[0.0],
            &[5e-324, 0.0],
        ] {
            let line = points(values);
            let chart = Lines {
                label: String::new(),
                span: (0.0, 0.0),
                scale: Scale {
                    factor: 1e9,
                    label: String::new(),
                    moments: false,
                },
                lines: vec![&line],
                thresholds: Vec::new(),
                columns: 100,
                size: WHOLE_WIDTH,
            };
            assert!(
                !chart.draw().into_string().contains("problem"),
                "{values:?}"
            );
            assert!(!sparkline(&line, (0.0, 1.0)).into_string().is_empty());
        }
    }

    #[test]
    fn merging_steps_of_a_heat_map_loses_no_observation() {
        let steps = (0..1000)
            .map(|nth| HeatStep {
                from: f64::from(nth),
                to: f64::from(nth + 1),
                cells: vec![1.0, f64::from(u8::from(nth == 500))],
            })
            .collect();
        let map = HeatMap {
            label: String::new(),
            span: (0.0, 1000.0),
            rows: vec!["low".into(), "high".into()],
            steps,
        };
        let merged = map.merged(90);
        assert!(merged.len() <= 90);
        let sum = |row: usize| merged.iter().map(|step| step.cells[row]).sum::<f64>();
        assert_eq!((sum(0), sum(1)), (1000.0, 1.0));
        assert_eq!(merged.last().map(|step| step.to), Some(1000.0));
    }

    #[test]
    fn a_bar_ends_with_its_size() {
        let bars = Bars {
            label: "sizes".into(),
            bars: vec![("a".into(), 1542.0), ("b".into(), 0.0)],
        };
        assert!(bars.draw().into_string().contains("1542"));
    }
}
