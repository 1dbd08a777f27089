//! Takes any lock in any way, as it is told on standard input; `lockwatch_tests::locker` has the commands.

fn main() -> anyhow::Result<()> {
    lockwatch_tests::locker::main()
}
