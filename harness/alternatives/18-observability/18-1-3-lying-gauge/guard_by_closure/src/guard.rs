//! Something to be done at the end, however it comes.

pub(crate) struct AtEnd<F: FnMut()>(F);

impl<F: FnMut()> AtEnd<F> {
    pub(crate) fn new(then: F) -> Self {
        AtEnd(then)
    }
}

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
