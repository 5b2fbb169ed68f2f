//! Lists of CPUs such as `0-3,8` (cpuset(7), "List format").

/// Counts the CPUs of a list. Returns `None` for an empty list, which the kernel uses for "not set".
#[must_use]
pub fn count(text: &str) -> Option<u32> {
    let mut sum: u32 = 0;
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        sum = sum.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted() {
        for (text, cpus) in [
            ("0\n", Some(1)),
            ("0-3\n", Some(4)),
            ("0-3,8,10-11\n", Some(7)),
            ("\n", None),
            ("3-0", None),
            ("0-", None),
            ("a", None),
            ("0-4294967295", None),
        ] {
            assert_eq!(count(text), cpus, "{text:?}");
        }
    }
}
