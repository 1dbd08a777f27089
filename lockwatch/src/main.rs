//! placeholder
mod sources;
use sources::bpf::{load, walk, fds};
fn main() -> anyhow::Result<()> {
    let t = std::time::Instant::now();
    let mut e = load::open(load::Purpose::Look)?;
    println!("open {:?}", t.elapsed());
    let mut w = walk::Walker::load(&mut e)?;
    println!("walk loaded {:?}", t.elapsed());
    let r = w.run(&mut e)?;
    println!("walked {} {:?} {:?}", r.records.len(), r.gaps, t.elapsed());
    for x in r.records.iter().take(20) { println!("{x:x?}"); }
    let mut d = fds::Descriptors::load(&mut e)?;
    println!("fds loaded {:?}", t.elapsed());
    let tb = d.run(&mut e)?;
    println!("fds {} {:?}", tb.fds.len(), t.elapsed());
    for x in tb.fds.iter().take(20) { println!("{x:x?}"); }
    println!("{:?}", tb.paths);
    drop(e);
    for way in [load::Way::Typed, load::Way::Raw, load::Way::Classic] {
    let mut e = load::open(load::Purpose::Trace)?;
    let t = std::time::Instant::now();
    println!("{way:?} {:?} {:?}", load::attach(&mut e, load::Purpose::Trace, Some(way)), t.elapsed());
    drop(e);
    println!("dropped {:?}", t.elapsed());
    }
    Ok(())
}
