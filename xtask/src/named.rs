//! Items of a list that arguments name.

/// An item with a name.
pub(crate) trait Named: Sized + 'static {
    /// Its kind in the plural, as in "benchmarks".
    const KIND: &'static str;

    /// The list that the item is in.
    const ALL: &'static [Self];

    /// The name, which no other item of the list has.
    fn name(&self) -> &'static str;
}

/// The item of this name. The error lists all names.
pub(crate) fn find<T: Named>(name: &str) -> Result<&'static T, String> {
    T::ALL.iter().find(|item| item.name() == name).ok_or_else(|| {
        let names: Vec<&str> = T::ALL.iter().map(Named::name).collect();
        format!("the {} are {}", T::KIND, names.join(", "))
    })
}

/// The named items in the order of the list, each once; all that `default` accepts if none is
/// named.
pub(crate) fn select<T: Named>(
    named: &[&'static T],
    default: impl Fn(&T) -> bool,
) -> Vec<&'static T> {
    let is_named = |item: &T| named.iter().any(|named| named.name() == item.name());
    let chosen = |item: &&T| if named.is_empty() { default(item) } else { is_named(item) };
    T::ALL.iter().filter(chosen).collect()
}
