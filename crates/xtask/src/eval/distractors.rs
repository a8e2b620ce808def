//! Memories that answer no question and speak of the same things in the same words.

use a2a_core::memory::MemoryType;

const PEOPLE: [&str; 16] = [
    "Nadia", "Luca", "Priya", "Henrik", "Aiko", "Femi", "Ottilie", "Tanja", "Ralf", "Ilse", "Bertil", "Camille",
    "Dario", "Yuki", "Clara", "Pelle",
];
const SYSTEMS: [&str; 16] = [
    "the billing service",
    "the search cluster",
    "the mobile app",
    "the customer portal",
    "the staging database",
    "the event stream",
    "the file server",
    "the newsletter tool",
    "the image worker",
    "the payment gateway",
    "the intranet",
    "the build machine",
    "the warehouse scanner",
    "the tax export",
    "the login page",
    "the map service",
];
const EVENTS: [&str; 12] = [
    "asked for a review of",
    "wrote a note about",
    "found a slow query in",
    "restarted",
    "closed three tickets of",
    "presented the plan for",
    "measured the latency of",
    "updated the licence of",
    "cleaned the logs of",
    "drew a diagram of",
    "wants a second owner for",
    "moved the alarms of",
];
const PLACES: [&str; 12] =
    ["Vienna", "Lisbon", "Oslo", "Porto", "Ghent", "Malmö", "Prague", "Lyon", "Gdansk", "Turin", "Antwerp", "Dublin"];
const THINGS: [&str; 16] = [
    "tomatoes",
    "train tickets",
    "printer paper",
    "coffee beans",
    "a birthday cake",
    "tyres",
    "light bulbs",
    "a passport photo",
    "the parking permit",
    "school books",
    "running shoes",
    "a guitar string",
    "cat food",
    "a new kettle",
    "garden soil",
    "concert tickets",
];
const CHORES: [&str; 10] = [
    "Bought",
    "Returned",
    "Compared prices of",
    "Forgot",
    "Ordered",
    "Was asked about",
    "Paid for",
    "Picked up",
    "Wrote a review of",
    "Looked everywhere for",
];

/// The type, the age in days and the content of each.
pub(super) fn all() -> Vec<(MemoryType, i64, String)> {
    let mut all = Vec::new();
    let mut number: usize = 0;
    // Steps that have no factor in common with the lengths of the lists, so that pairs come in no pattern.
    let mut age = |spread: usize| {
        number += 1;
        i64::try_from(number * 37 % spread + 1).unwrap_or(1)
    };
    for (i, system) in SYSTEMS.iter().enumerate() {
        for (j, event) in EVENTS.iter().enumerate() {
            if let Some(person) = PEOPLE.get((i * 5 + j * 3) % PEOPLE.len()) {
                all.push((MemoryType::Episodic, age(211), format!("{person} {event} {system}.")));
            }
        }
    }
    for (i, thing) in THINGS.iter().enumerate() {
        for (j, chore) in CHORES.iter().enumerate() {
            if let Some(place) = PLACES.get((i * 7 + j * 5) % PLACES.len()) {
                all.push((MemoryType::Episodic, age(307), format!("{chore} {thing} in {place}.")));
            }
        }
    }
    for (i, place) in PLACES.iter().enumerate() {
        for (j, person) in PEOPLE.iter().enumerate() {
            let text = match (i + j) % 4 {
                0 => format!("{person} visits the office in {place} twice a year."),
                1 => format!("{person} keeps the list of suppliers in {place}."),
                2 => format!("The contact for deliveries to {place} is {person}."),
                _ => format!("{person} speaks for the works council in {place}."),
            };
            all.push((MemoryType::Semantic, age(401), text));
        }
    }
    all
}
