//! Reports as pictures: medians with their spread, and curves.
//!
//! Decides: which plots a report has, how they are called, how they look.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::markdown::number;
use super::report::{Curves, Figure, Report, Row, Spread};

/// Pixels.
const WIDTH: u32 = 860;
/// Pixels per row of medians.
const ROW: u32 = 44;
/// Pixels for a plot's title and axis.
const FRAME: u32 = 90;
/// Pixels of a plot with curves.
const CURVES: u32 = 460;

/// What floors are drawn in.
const FLOOR: RGBColor = RGBColor(130, 130, 130);
/// What is measured.
const MEASURED: RGBColor = RGBColor(31, 97, 171);
/// For curves, told apart by those who see no red or green (Okabe and Ito,
/// "Color Universal Design").
const LINES: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];

/// One picture.
pub(super) struct Plot<'a> {
    /// In `docs/img`.
    pub(super) file: String,
    pub(super) title: String,
    what: What<'a>,
}

enum What<'a> {
    Medians {
        unit: &'a str,
        rows: Vec<(&'a Row, Spread)>,
    },
    Curves(&'a Curves),
}

/// All of a report's: one of the medians of each unit that has several, and
/// its curves.
pub(super) fn of(report: &Report) -> Vec<Plot<'_>> {
    let bench = &report.bench;
    let mut medians: Vec<(&str, Vec<(&Row, Spread)>)> = Vec::new();
    for row in &report.findings.rows {
        let Figure::Spread { unit, spread } = &row.figure else {
            continue;
        };
        match medians.iter_mut().find(|(known, _)| known == unit) {
            Some((_, rows)) => rows.push((row, *spread)),
            None => medians.push((unit, vec![(row, *spread)])),
        }
    }
    let several = medians.into_iter().filter(|(_, rows)| rows.len() > 1);
    let medians = several.map(|(unit, rows)| Plot {
        file: format!("{bench}-{}.svg", slug(unit)),
        title: format!("{bench}: p50, range and p95 in {unit}"),
        what: What::Medians { unit, rows },
    });
    let curves = report.findings.curves.iter().map(|curves| Plot {
        file: format!("{bench}-{}.svg", slug(&curves.title)),
        title: format!("{bench}: {}", curves.title),
        what: What::Curves(curves),
    });
    medians.chain(curves).collect()
}

/// What may stand in a file's name.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for character in text.to_lowercase().replace('/', " per ").chars() {
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

impl Plot<'_> {
    /// The picture.
    pub(super) fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        let height = match &self.what {
            What::Medians { rows, .. } => FRAME + ROW * rows.len() as u32,
            What::Curves(_) => CURVES,
        };
        let drawn = {
            let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
            self.draw(&area)
        };
        drawn.map_err(|error| anyhow!("cannot draw {}: {error}", self.file))?;
        svg.push('\n');
        Ok(svg)
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        area.fill(&WHITE)?;
        match &self.what {
            What::Medians { unit, rows } => medians(area, &self.title, unit, rows)?,
            What::Curves(what) => curves(area, &self.title, what)?,
        }
        area.present()?;
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A line per row: its name above, the range thin, up to p95 thick, the median
/// as a dot.
fn medians(area: &Area<'_>, title: &str, unit: &str, rows: &[(&Row, Spread)]) -> Drawn {
    /// What is less is drawn as this: a logarithm has no zero.
    const LEAST: f64 = 0.01;
    /// Where the most is more than so many times the least, ratios are
    /// distances: the axis is logarithmic.
    const WIDE: f64 = 20.0;
    let least = rows.iter().map(|(_, spread)| spread.min.max(LEAST));
    let least = least.fold(f64::INFINITY, f64::min);
    let most = rows.iter().map(|(_, spread)| spread.max.max(LEAST));
    let most = most.fold(LEAST, f64::max);
    let mut chart = ChartBuilder::on(area);
    chart
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(34);
    let lines = 0.0..rows.len() as f64;
    if most > WIDE * least {
        let x = (least / 1.3..most * 1.6).log_scale();
        let mut chart = chart.build_cartesian_2d(x, lines)?;
        lines_of(&mut chart, unit, rows, least / 1.25)
    } else {
        let mut chart = chart.build_cartesian_2d(0.0..most * 1.05, lines)?;
        lines_of(&mut chart, unit, rows, most * 0.005)
    }
}

type Chart<'a, 'b, X> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, RangedCoordf64>>;

/// Draws them, no further to the left than `left`, where their names begin.
fn lines_of<X>(
    chart: &mut Chart<'_, '_, X>,
    unit: &str,
    rows: &[(&Row, Spread)],
    left: f64,
) -> Drawn
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let floors = rows.iter().filter_map(|(row, _)| row.floor.as_ref());
    let floors: Vec<&str> = floors.map(|floor| floor.name.as_str()).collect();
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc(unit)
        .x_label_formatter(&|value| number(*value))
        .light_line_style(WHITE)
        .draw()?;
    for (place, (row, spread)) in rows.iter().enumerate() {
        let y = rows.len() as f64 - place as f64 - 0.75;
        let color = if floors.contains(&row.name.as_str()) {
            FLOOR
        } else {
            MEASURED
        };
        let [min, p50, p95, max] =
            [spread.min, spread.p50, spread.p95, spread.max].map(|value| value.max(left));
        let thin = PathElement::new(vec![(min, y), (max, y)], color.stroke_width(1));
        let thick = PathElement::new(vec![(min, y), (p95, y)], color.stroke_width(4));
        chart.draw_series([thin, thick])?;
        chart.draw_series([Circle::new((p50, y), 5, color.filled())])?;
        let text = format!("{}: {} {unit}", row.name, number(spread.p50)).replace('`', "");
        let text = Text::new(text, (left, y + 0.55), ("sans-serif", 13));
        chart.draw_series([text])?;
    }
    Ok(())
}

fn curves(area: &Area<'_>, title: &str, curves: &Curves) -> Drawn {
    let Curves {
        title: _,
        x,
        y,
        lines,
    } = curves;
    let points = || lines.iter().flat_map(|line| &line.points);
    let right = points().map(|(x, _)| *x).fold(0.0, f64::max);
    let top = points().map(|(_, y)| *y).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..right, 0.0..top * 1.05)?;
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .light_line_style(WHITE)
        .draw()?;
    for (line, color) in lines.iter().zip(LINES.iter().cycle()) {
        let series = LineSeries::new(line.points.iter().copied(), color.stroke_width(2));
        chart
            .draw_series(series)?
            .label(&line.name)
            .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(FLOOR)
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests;
