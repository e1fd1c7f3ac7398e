//! stub
#[derive(Debug, Default)] pub struct Breakers;
