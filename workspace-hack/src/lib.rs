//! Nothing: this package exists for the features its manifest names.
