//! Simulates steering: `cargo xtask bench steering`. What the figures mean is in `docs/steering.md`.

mod figures;
mod policy;
mod random;
mod scenario;
mod world;

use lb_agent::steering::spec::Steering;
use crate::{figures::Figures, policy::Policy, scenario::{Case, Event}, world::Grain};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let seeds: u64 = arguments.get(1).and_then(|s| s.parse().ok()).unwrap_or(3);
    let filter = arguments.get(2).cloned().unwrap_or_default();
    let mut spec = Steering::default(); for (k,v) in std::env::vars() { let v=||v.parse::<f64>().unwrap(); match k.as_str() { "S_STEP"=>spec.step=v(), "S_BUSY"=>spec.moved_busy=v(), "S_LEAST"=>spec.deficit_least=v(), "S_GAIN"=>spec.gain=v(), "S_DEAD"=>spec.deadband=v(), "S_SURPRISE"=>spec.surprise=v(), _=>{} } }
    if filter == "trace" {
        let life: f64 = arguments[3].parse().unwrap();
        let event = match arguments[4].as_str() { "halved" => Event::Step, "join" => Event::Join, "leave" => Event::Leave, "stale" => Event::Stale, _ => Event::Cold };
        let mut case = Case::plain(event, life);
        for a in &arguments[5..] { let (k,v)=a.split_once('=').unwrap(); match k { "reals"=>case.reals=v.parse().unwrap(), "load"=>case.load=v.parse().unwrap(), "lag"=>case.lag=v.parse().unwrap(), "noise"=>case.noise=v.parse().unwrap(), "told"=>case.told=v=="1", _=>panic!() } }
        let t = world::play(&case, Policy::Capacity, &spec, seeds, Grain::Rounded);
        for p in 0..t.uneven.len() { println!("{p} {:.3} moved {:.4} subject {:.3}", t.uneven[p], t.moved[p], t.subject[p]); }
        return;
    }
    for policy in [Policy::Equal, Policy::Naive, Policy::Oracle, Policy::Capacity] {
        print!("{:16}", policy.name());
        for life in [0.0, 60.0, 600.0, 3600.0] {
            let case = Case::plain(Event::Cold, life);
            let runs: Vec<Figures> = (0..seeds).map(|seed| Figures::of(&case, &world::play(&case, policy, &spec, seed, Grain::Rounded))).collect();
            let f = Figures::mean(&runs);
            print!(" | {:6.1} (bound {:5.1}) steady {:.3} moved {:.3}%", f.settle, f.bound, f.steady, f.moved*100.0);
        }
        println!();
    }
    if filter == "short" { return; }
    let mut bad = 0; let mut n=0;
    let most: f64 = std::env::var("S_LIFE").map_or(1e9, |v| v.parse().unwrap());
    for case in scenario::grid() { if case.life > most { continue; }
        let runs: Vec<Figures> = (0..seeds).map(|seed| Figures::of(&case, &world::play(&case, Policy::Capacity, &spec, seed, Grain::Rounded))).collect();
        let f = Figures::mean(&runs);
        let reach = if case.life == 0.0 { 12.0 } else { (1.3*f.bound).max(12.0) };
        let sreach = if case.noise > 0.05 { 1.10 } else { 1.05 };
        let ok = [f.settle <= reach, f.overshoot <= 0.10, f.steady <= sreach, f.moved <= 0.001];
        n+=1;
        if ok.iter().any(|o| !o) { bad+=1;
            println!("{:?} reals {} load {} life {} noise {} lag {}: settle {:.1} reach {:.1}{} overshoot {:.3}{} steady {:.3}{} moved {:.3}%{} most {:.3}", case.event, case.reals, case.load, case.life, case.noise, case.lag, f.settle, reach, if ok[0] {""} else {"!"}, f.overshoot, if ok[1] {""} else {"!"}, f.steady, if ok[2] {""} else {"!"}, f.moved*100.0, if ok[3] {""} else {"!"}, f.most_moved);
        }
    }
    println!("{bad} of {n}");
}
