//! Pictures of the history of load. Text is left to whatever shows the picture, so no fonts are needed.

use lb_history::{Point, Quantity};
use plotters::prelude::*;

use super::history::{History, figure, time};

const WIDTH: u32 = 900;
const PANEL: u32 = 190;
const TITLE: u32 = 34;
/// Labels of an axis.
const TIMES: usize = 7;
const FIGURES: usize = 5;
const FONT: (&str, i32) = ("sans-serif", 12);

/// A panel: its title, and quantities that share an axis, with their colours.
type Panel = (&'static str, &'static [(Quantity, RGBColor)]);

const BLUE_LINE: RGBColor = RGBColor(31, 119, 180);
const ORANGE_LINE: RGBColor = RGBColor(214, 110, 10);
const GREEN_LINE: RGBColor = RGBColor(44, 140, 60);
const VIOLET_LINE: RGBColor = RGBColor(128, 88, 170);

const PANELS: [Panel; 5] = [
    (
        "requests or connections per second",
        &[(Quantity::Rate, BLUE_LINE)],
    ),
    (
        "open requests or connections",
        &[(Quantity::Connections, BLUE_LINE)],
    ),
    ("instances that serve", &[(Quantity::Serving, GREEN_LINE)]),
    (
        "use of limits",
        &[
            (Quantity::Cpu, BLUE_LINE),
            (Quantity::Memory, ORANGE_LINE),
            (Quantity::Network, GREEN_LINE),
            (Quantity::Utilisation, VIOLET_LINE),
        ],
    ),
    ("time until answers", &[(Quantity::Latency, ORANGE_LINE)]),
];

/// Draws it: a panel for each quantity, or group of them, of which something is known. Lines are means, and the pale area above
/// them reaches to the highest.
///
/// # Errors
/// It cannot be drawn.
pub fn svg(history: &History) -> Result<String, String> {
    let known: Vec<Quantity> = history.known().collect();
    let panels: Vec<Panel> = PANELS
        .into_iter()
        .filter(|(_, lines)| lines.iter().any(|(quantity, _)| known.contains(quantity)))
        .collect();
    let height = TITLE + PANEL * u32::try_from(panels.len().max(1)).unwrap_or(1);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        draw(history, &known, &panels, &root).map_err(|error| error.to_string())?;
        root.present().map_err(|error| error.to_string())?;
    }
    Ok(text)
}

fn draw<B: DrawingBackend>(
    history: &History,
    known: &[Quantity],
    panels: &[Panel],
    root: &DrawingArea<B, plotters::coord::Shift>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    root.fill(&WHITE)?;
    let (title, rest) = root.split_vertically(TITLE);
    let (Some(first), Some(last)) = (history.points.first(), history.points.last()) else {
        let text = format!("nothing is known of {} in this time", history.name);
        return title.draw(&Text::new(text, (12, 10), ("sans-serif", 16)));
    };
    let heading = format!(
        "{}, {} to {}, {} s a point",
        history.name,
        time(first.time),
        time(last.time + history.step),
        history.step
    );
    title.draw(&Text::new(heading, (12, 10), ("sans-serif", 16)))?;
    let range = first.time..(last.time + history.step).max(first.time + 1);
    for (area, panel) in rest.split_evenly((panels.len(), 1)).iter().zip(panels) {
        draw_panel(history, known, panel, range.clone(), area)?;
    }
    Ok(())
}

fn draw_panel<B: DrawingBackend>(
    history: &History,
    known: &[Quantity],
    (name, lines): &Panel,
    range: std::ops::Range<u64>,
    area: &DrawingArea<B, plotters::coord::Shift>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let lines = lines
        .iter()
        .filter(|(quantity, _)| known.contains(quantity));
    let lines: Vec<(Quantity, RGBColor)> = lines.copied().collect();
    let Some((first, _)) = lines.first().copied() else {
        return Ok(());
    };
    let highest = history.points.iter().flat_map(|point| {
        let of = |(quantity, _): &(Quantity, RGBColor)| Some(point.get(*quantity)?.1);
        lines.iter().filter_map(of)
    });
    let highest = highest.fold(0.0, f64::max);
    let top = if highest > 0.0 { highest * 1.1 } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .margin_right(24)
        .caption(*name, ("sans-serif", 13))
        .x_label_area_size(24)
        .y_label_area_size(70)
        .build_cartesian_2d(range.clone(), 0.0..top)?;
    let is_long = range.end - range.start > 2 * 86_400;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .axis_style(RGBColor(120, 120, 120))
        .x_labels(TIMES)
        .y_labels(FIGURES)
        .label_style(FONT)
        .x_label_formatter(&|seconds| label(*seconds, is_long))
        .y_label_formatter(&|value| figure(first, *value))
        .draw()?;
    for (quantity, colour) in lines.iter().copied() {
        for part in parts(&history.points, quantity, history.step) {
            let band = part.iter().map(|(time, _, highest)| (*time, *highest));
            let back = part.iter().rev().map(|(time, mean, _)| (*time, *mean));
            chart.draw_series(std::iter::once(Polygon::new(
                band.chain(back).collect::<Vec<_>>(),
                colour.mix(0.15).filled(),
            )))?;
            let line = part.iter().map(|(time, mean, _)| (*time, *mean));
            let style = colour.stroke_width(2);
            chart.draw_series(LineSeries::new(line, style))?;
        }
        if lines.len() > 1 {
            // For the legend.
            chart
                .draw_series(LineSeries::new(std::iter::empty(), colour.stroke_width(2)))?
                .label(quantity.name())
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2))
                });
        }
    }
    if lines.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font(FONT)
            .draw()?;
    }
    Ok(())
}

/// The parts of a line without gaps: time of the middle, mean and highest. A lone point has the width of its step.
fn parts(points: &[Point], quantity: Quantity, step: u64) -> Vec<Vec<(u64, f64, f64)>> {
    let mut parts: Vec<Vec<(u64, f64, f64)>> = Vec::new();
    let mut last = None;
    for point in points {
        let Some((mean, highest)) = point.get(quantity) else {
            continue;
        };
        let item = (point.time + step / 2, mean, highest);
        let is_next = last.is_some_and(|last: u64| point.time <= last + step);
        match parts.last_mut() {
            Some(part) if is_next => part.push(item),
            _ => parts.push(vec![item]),
        }
        last = Some(point.time);
    }
    for part in &mut parts {
        if let [(time, mean, highest)] = part[..] {
            let half = step / 2;
            *part = vec![
                (time.saturating_sub(half), mean, highest),
                (time + half, mean, highest),
            ];
        }
    }
    parts
}

/// A time on the axis: `14:05`, or `11-29` where days are shown.
fn label(seconds: u64, is_long: bool) -> String {
    let text = time(seconds);
    // 2026-11-29T14:05:00Z
    let part = if is_long { 5..10 } else { 11..16 };
    text.get(part).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(known: &[Quantity]) -> History {
        let point = |at: u64| {
            let figures = Quantity::ALL.map(|quantity| {
                let wave = ((at as f64) / 20.0).sin().mul_add(0.3, 0.5);
                let is_gap = (100..130).contains(&at);
                (known.contains(&quantity) && !is_gap).then_some((wave, wave + 0.1))
            });
            Point::new(1_700_000_000 + at * 10, figures)
        };
        History {
            name: "web".to_owned(),
            step: 10,
            points: (0..360).map(point).collect(),
        }
    }

    #[test]
    fn a_picture_has_a_panel_for_each_group_that_is_known() {
        let text = svg(&history(&[Quantity::Rate, Quantity::Cpu, Quantity::Memory])).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        for word in ["per second", "use of limits", "memory", "22:"] {
            assert!(text.contains(word), "{word}");
        }
        assert!(!text.contains("time until answers"));
        let all = svg(&history(&Quantity::ALL)).unwrap();
        assert!(all.contains("time until answers"));
        if let Some(file) = std::env::var_os("LB_PLOT") {
            std::fs::write(file, all).unwrap();
        }
    }

    #[test]
    fn a_picture_of_nothing_says_so() {
        let text = svg(&History {
            points: Vec::new(),
            ..history(&[])
        });
        assert!(text.unwrap().contains("nothing is known of web"));
    }

    #[test]
    fn lines_have_gaps_where_nothing_is_known() {
        let history = history(&[Quantity::Rate]);
        let found = parts(&history.points, Quantity::Rate, history.step);
        let lengths: Vec<usize> = found.iter().map(Vec::len).collect();
        assert_eq!(lengths, [100, 230]);
        assert!(parts(&history.points, Quantity::Cpu, 10).is_empty());
        let lone = parts(&history.points[..1], Quantity::Rate, 10);
        assert_eq!(lone[0].len(), 2);
    }
}
