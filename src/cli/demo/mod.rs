//! `outrigger demo`: an app, a mock provider, the proxy between them, and the story of what happens.

pub mod app;
pub mod setting;
pub mod story;
