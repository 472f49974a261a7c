//! Items of a list that arguments name.

/// A list of items with names that differ.
pub(crate) struct Names<T: 'static> {
    /// Their kind in the plural, as in "benchmarks".
    pub(crate) kind: &'static str,
    pub(crate) all: &'static [T],
    pub(crate) name: fn(&T) -> &'static str,
}

impl<T> Names<T> {
    /// The item of this name. The error lists all names.
    pub(crate) fn find(&self, name: &str) -> Result<&'static T, String> {
        self.all.iter().find(|item| (self.name)(item) == name).ok_or_else(|| {
            let names: Vec<&str> = self.all.iter().map(self.name).collect();
            format!("the {} are {}", self.kind, names.join(", "))
        })
    }

    /// The chosen items in the order of the list, each once; all that `default` accepts if none is
    /// chosen.
    pub(crate) fn select(
        &self,
        chosen: &[&'static T],
        default: impl Fn(&T) -> bool,
    ) -> Vec<&'static T> {
        let is_chosen =
            |item: &T| chosen.iter().any(|chosen| (self.name)(chosen) == (self.name)(item));
        let is_taken = |item: &&T| if chosen.is_empty() { default(item) } else { is_chosen(item) };
        self.all.iter().filter(is_taken).collect()
    }
}
