//! What an operator can say.
