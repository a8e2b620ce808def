//! What an agent has experienced: its personality, and how its work on each capability ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::retention::days_between;
use crate::ids::{AgentKey, Revision};
use crate::limits;
use crate::time::Timestamp;

/// Where every trait begins.
pub const TRAIT_START: f32 = 0.5;
/// How far one full experience moves a trait, of the way that is left to the end.
pub const TRAIT_STEP: f32 = 0.05;

/// The five traits of an agent, each 0 to 1 and [`TRAIT_START`] at first, with what moved them.
///
/// An experience has a value from -1 (failed, or feedback at its worst) to 1. It moves each trait by
/// `TRAIT_STEP · |value| · weight · room`, where `weight` is in the tables of this file and `room` is what is left of the
/// scale in that direction. So a trait never leaves 0 to 1, comes ever slower to an end, and forgets: 14 experiences of
/// the other kind take back half of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Personality {
    /// How sure it may be of itself: rises with success, falls with failure.
    pub confidence: f32,
    /// How carefully it should go on: rises with failure, falls slowly with success.
    pub caution: f32,
    /// How thorough it should be: rises when work is criticised or fails, falls slowly when it is praised.
    pub thoroughness: f32,
    /// How much it tries new ways: rises with praise, falls with failure.
    pub creativity: f32,
    /// How closely it keeps to what people ask: rises with feedback of either kind, more with praise.
    pub cooperation: f32,
    /// How many experiences there were.
    pub interactions: u32,
    /// How many of them were above zero.
    pub positive: u32,
    /// How many of them were below zero.
    pub negative: u32,
}

impl Default for Personality {
    fn default() -> Self {
        Self {
            confidence: TRAIT_START,
            caution: TRAIT_START,
            thoroughness: TRAIT_START,
            creativity: TRAIT_START,
            cooperation: TRAIT_START,
            interactions: 0,
            positive: 0,
            negative: 0,
        }
    }
}

/// What teaches an agent something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Experience {
    /// A step ended well or not.
    Outcome {
        /// Whether it ended well.
        success: bool,
    },
    /// Somebody said what they think of the work, from -1 to 1.
    Feedback {
        /// The score; what is outside counts as the end, what is no number as zero.
        score: f32,
    },
}

/// How much each experience pulls a trait up (above 0) or down: confidence, caution, thoroughness, creativity, cooperation.
struct Pulls {
    good: [f32; 5],
    bad: [f32; 5],
}

/// What outcomes do.
const OUTCOME: Pulls = Pulls { good: [1.0, -0.5, -0.2, 0.3, 0.0], bad: [-1.0, 1.0, 0.8, -0.5, 0.0] };
/// What feedback does.
const FEEDBACK: Pulls = Pulls { good: [0.6, -0.2, -0.2, 1.0, 1.0], bad: [-0.6, 0.6, 1.0, -0.3, 0.4] };

impl Personality {
    /// What the agent is like after an experience.
    #[must_use]
    pub fn after(mut self, experience: Experience) -> Self {
        let (value, pulls) = match experience {
            Experience::Outcome { success } => (if success { 1.0 } else { -1.0 }, &OUTCOME),
            Experience::Feedback { score } if score.is_nan() => (0.0, &FEEDBACK),
            Experience::Feedback { score } => (score.clamp(-1.0, 1.0), &FEEDBACK),
        };
        self.interactions = self.interactions.saturating_add(1);
        if value > 0.0 {
            self.positive = self.positive.saturating_add(1);
        } else if value < 0.0 {
            self.negative = self.negative.saturating_add(1);
        }
        let pulls = if value >= 0.0 { pulls.good } else { pulls.bad };
        let traits = [
            &mut self.confidence,
            &mut self.caution,
            &mut self.thoroughness,
            &mut self.creativity,
            &mut self.cooperation,
        ];
        for (place, pull) in traits.into_iter().zip(pulls) {
            let room = if pull >= 0.0 { 1.0 - *place } else { *place };
            *place = (*place + TRAIT_STEP * value.abs() * pull * room).clamp(0.0, 1.0);
        }
        self
    }
}

/// How the work of an agent on one capability ended. Each outcome counts half as much after
/// [`OUTCOME_HALF_LIFE_DAYS`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CapabilityRecord {
    /// How often it ended well.
    pub worked: u32,
    /// How often it did not.
    pub failed: u32,
    /// The weight of what ended well, as of `at`.
    pub recent_worked: f32,
    /// The weight of everything, as of `at`.
    pub recent: f32,
    /// When the last outcome came.
    pub at: Timestamp,
}

/// After so many days an outcome counts half as much.
pub const OUTCOME_HALF_LIFE_DAYS: f32 = 14.0;

impl CapabilityRecord {
    fn new(now: Timestamp) -> Self {
        Self { worked: 0, failed: 0, recent_worked: 0.0, recent: 0.0, at: now }
    }

    fn add(&mut self, success: bool, now: Timestamp) {
        let kept = self.kept(now);
        self.recent_worked = self.recent_worked * kept + f32::from(u8::from(success));
        self.recent = self.recent * kept + 1.0;
        self.at = self.at.max(now);
        let count = if success { &mut self.worked } else { &mut self.failed };
        *count = count.saturating_add(1);
    }

    fn kept(&self, now: Timestamp) -> f32 {
        0.5f32.powf(days_between(self.at, now) / OUTCOME_HALF_LIFE_DAYS)
    }

    /// How reliable the agent is for the capability, 0 to 1: the share of work that ended well, with two outcomes of each
    /// kind assumed before anything is known, so that a first failure does not condemn.
    #[must_use]
    pub fn reliability(&self, now: Timestamp) -> f32 {
        const ASSUMED: f32 = 2.0;
        let kept = self.kept(now);
        (ASSUMED + self.recent_worked * kept) / (2.0 * ASSUMED + self.recent * kept)
    }
}

/// Everything that an agent has experienced, as the database holds it. It stays when the agent goes.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentExperience {
    /// The agent.
    pub agent: AgentKey,
    /// What it is like.
    pub personality: Personality,
    /// How its work ended, by capability.
    pub capabilities: BTreeMap<Arc<str>, CapabilityRecord>,
    /// Raised by the database at each change.
    pub revision: Revision,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl AgentExperience {
    /// Of an agent that has experienced nothing.
    #[must_use]
    pub fn none(agent: AgentKey, now: Timestamp) -> Self {
        Self { agent, personality: Personality::default(), capabilities: BTreeMap::new(), revision: 0, updated_at: now }
    }

    /// Takes a personality over that was formed elsewhere, and says whether it did: not when there are experiences.
    pub fn adopt(&mut self, personality: Personality, now: Timestamp) -> bool {
        if self.revision > 0 {
            return false;
        }
        self.personality = personality;
        self.revision = 1;
        self.updated_at = self.updated_at.max(now);
        true
    }

    /// How the work on a capability ended, or on all of them together as of `now`; `None` when there was none.
    #[must_use]
    pub fn record(&self, capability: Option<&str>, now: Timestamp) -> Option<CapabilityRecord> {
        if let Some(capability) = capability {
            return self.capabilities.get(capability).copied();
        }
        let mut sum = CapabilityRecord::new(now);
        for record in self.capabilities.values() {
            let kept = record.kept(now);
            sum.worked = sum.worked.saturating_add(record.worked);
            sum.failed = sum.failed.saturating_add(record.failed);
            sum.recent_worked += record.recent_worked * kept;
            sum.recent += record.recent * kept;
        }
        (sum.worked > 0 || sum.failed > 0).then_some(sum)
    }

    /// Takes an experience in and raises the revision. Of more capabilities than an agent can have, the one is dropped
    /// that was not used for longest.
    pub fn learn(&mut self, capability: Option<&Arc<str>>, experience: Experience, now: Timestamp) {
        self.personality = self.personality.after(experience);
        if let (Some(capability), Experience::Outcome { success }) = (capability, experience) {
            let record = self.capabilities.entry(Arc::clone(capability)).or_insert_with(|| CapabilityRecord::new(now));
            record.add(success, now);
            if self.capabilities.len() > limits::CAPABILITIES_MAX {
                let oldest = self.capabilities.iter().min_by_key(|(_, record)| record.at);
                if let Some(oldest) = oldest.map(|(name, _)| Arc::clone(name)) {
                    self.capabilities.remove(&oldest);
                }
            }
        }
        self.revision += 1;
        self.updated_at = self.updated_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn success_builds_confidence_and_failure_caution() {
        let good = Personality::default().after(Experience::Outcome { success: true });
        let bad = Personality::default().after(Experience::Outcome { success: false });
        assert!(good.confidence > TRAIT_START && good.caution < TRAIT_START);
        assert!(bad.confidence < TRAIT_START && bad.caution > TRAIT_START && bad.thoroughness > TRAIT_START);
        assert_eq!((good.interactions, good.positive, bad.negative), (1, 1, 1));
    }

    #[test]
    fn no_experience_counts_as_nothing() {
        let after = Personality::default().after(Experience::Feedback { score: f32::NAN });
        assert_eq!(after, Personality { interactions: 1, ..Personality::default() });
    }

    #[test]
    fn old_outcomes_count_less() {
        let now = Timestamp(100 * 86_400_000);
        let day = |d: i64| Timestamp(d * 86_400_000);
        let after = |outcomes: [(i64, bool); 4]| {
            let mut record = CapabilityRecord::new(day(0));
            outcomes.into_iter().for_each(|(at, success)| record.add(success, day(at)));
            record.reliability(now)
        };
        assert_eq!(CapabilityRecord::new(now).reliability(now), 0.5);
        let mended = after([(0, false), (1, false), (99, true), (100, true)]);
        let broken = after([(0, true), (1, true), (99, false), (100, false)]);
        assert!(mended > 0.6 && broken < 0.4, "{mended} {broken}");
    }

    #[test]
    fn a_personality_of_elsewhere_is_taken_over_before_any_experience_only() {
        let key = AgentKey { namespace: crate::ids::Namespace::default(), id: crate::ids::AgentId::from_stored("who") };
        let of_elsewhere = Personality { creativity: 0.9, interactions: 40, ..Personality::default() };
        let mut fresh = AgentExperience::none(key.clone(), Timestamp(0));
        assert!(fresh.adopt(of_elsewhere, Timestamp(5)));
        assert_eq!((fresh.personality, fresh.revision, fresh.updated_at), (of_elsewhere, 1, Timestamp(5)));
        let mut experienced = AgentExperience::none(key, Timestamp(0));
        experienced.learn(None, Experience::Outcome { success: true }, Timestamp(1));
        let before = experienced.clone();
        assert!(!experienced.adopt(of_elsewhere, Timestamp(5)) && experienced == before);
    }

    #[test]
    fn an_agent_keeps_records_of_a_bounded_number_of_capabilities() {
        let key = AgentKey { namespace: crate::ids::Namespace::default(), id: crate::ids::AgentId::from_stored("who") };
        let mut experience = AgentExperience::none(key, Timestamp(0));
        for n in 0..=limits::CAPABILITIES_MAX {
            let name = Arc::from(format!("c{n}"));
            let now = Timestamp(i64::try_from(n).unwrap());
            experience.learn(Some(&name), Experience::Outcome { success: true }, now);
        }
        assert_eq!(experience.capabilities.len(), limits::CAPABILITIES_MAX);
        assert!(!experience.capabilities.contains_key("c0"));
        assert_eq!(experience.revision, 65);
    }

    proptest! {
        #[test]
        fn traits_stay_within_their_scale(scores in prop::collection::vec(-3.0f32..3.0, 0..400), ends in any::<bool>()) {
            let mut who = Personality::default();
            for score in scores {
                who = who.after(Experience::Feedback { score }).after(Experience::Outcome { success: ends });
            }
            for value in [who.confidence, who.caution, who.thoroughness, who.creativity, who.cooperation] {
                prop_assert!((0.0..=1.0).contains(&value));
            }
        }
    }
}
