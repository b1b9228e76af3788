//! The user tower in a file of its own, for users of item vectors from elsewhere: a few thousand
//! weights, whereas the model's file contains the tables of a million videos.

use super::UserTower;
use crate::hyperparameters::{MAX_DECAYS, MAX_DIM};
use crate::tensors::{self, Tensor, TensorError};
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;

/// Name of the layout; changes with it.
const FORMAT: &str = "twotower-user-tower-1";
const TOWER: &str = "user_tower";

impl UserTower {
    /// Every weight with its name and shape, in the order of the file.
    pub(crate) fn tensors_mut(&mut self) -> [Tensor<'_>; 5] {
        self.head.tensors_mut(TOWER)
    }

    /// The tower as the bytes of a safetensors file. The weights have the same names as in the
    /// model's file. The metadata are `format`, `dim`, `decays` and `skip_decay`; the latter two
    /// are JSON, in the fewest digits that give the same float32.
    ///
    /// # Errors
    /// [`TensorError::Format`] if the format refuses them, which it never does if shapes fit the
    /// data.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, TensorError> {
        let metadata = [
            ("format", FORMAT.to_owned()),
            ("dim", self.dim().to_string()),
            ("decays", format!("{:?}", self.decays)),
            ("skip_decay", format!("{:?}", self.skip_decay)),
        ];
        tensors::write(&self.clone().tensors_mut(), &metadata)
    }

    /// Reads a tower that [`UserTower::to_safetensors`] wrote.
    ///
    /// # Errors
    /// [`TensorError`] if metadata or a tensor is missing or wrong, if a number is not finite, or
    /// if there is a tensor that a user tower does not have.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, TensorError> {
        let file = SafeTensors::deserialize(bytes)?;
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let texts = Texts(&header);
        let decay = |x: &f32| (0.0..=1.0).contains(x);
        texts.read("format", FORMAT, |text| (text == FORMAT).then_some(()))?;
        let dim = texts.read("dim", "a whole number, 1 to 2000", |text| {
            text.parse().ok().filter(|dim| (1..=MAX_DIM).contains(dim))
        })?;
        let decays = texts.read(
            "decays",
            "an array of 1 to 16 numbers between 0 and 1",
            |text| {
                let decays: Vec<f32> = serde_json::from_str(text).ok()?;
                let some = (1..=MAX_DECAYS).contains(&decays.len());
                (some && decays.iter().all(decay)).then_some(decays)
            },
        )?;
        let skip_decay = texts.read("skip_decay", "a number between 0 and 1", |text| {
            serde_json::from_str(text).ok().filter(decay)
        })?;
        if let Some(name) = file.names().iter().find(|name| !name.starts_with(TOWER)) {
            return Err(TensorError::Unknown {
                name: (*name).to_owned(),
            });
        }
        // The only length that the metadata do not give. No memory is allocated before the largest
        // tensor is found.
        let hidden = match file.tensor("user_tower.hidden.bias") {
            Ok(bias) => bias.shape().iter().product(),
            Err(_) => 0,
        };
        let inputs = (decays.len() + 1) * dim + 2;
        tensors::find(&file, "user_tower.hidden.weight", &[inputs, hidden])?;
        let mut tower = Self::zeros(decays, skip_decay, hidden, dim);
        tensors::fill(&file, tower.tensors_mut().into())?;
        Ok(tower)
    }
}

/// Texts in the metadata of a safetensors file.
struct Texts<'a>(&'a Metadata);

impl Texts<'_> {
    /// Parses a text of the metadata; `parse` refuses it with `None`.
    fn read<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, TensorError> {
        let texts = self.0.metadata().as_ref();
        let text = texts.and_then(|texts| texts.get(key));
        text.and_then(|text| parse(text))
            .ok_or_else(|| TensorError::Metadata {
                key,
                expected,
                found: text.map_or("nothing".to_owned(), |text| format!("`{text}`")),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::Tensor;

    fn tower() -> UserTower {
        let mut tower = UserTower::zeros(vec![0.0, 0.1, 1.0], 0.9, 3, 2);
        for (_, _, data) in tower.tensors_mut() {
            for (n, x) in data.iter_mut().enumerate() {
                *x = (n as f32 + 0.5).sin();
            }
        }
        tower
    }

    fn metadata() -> [(&'static str, String); 4] {
        [
            ("format", FORMAT.to_owned()),
            ("dim", "2".to_owned()),
            ("decays", "[0.0, 0.1, 1.0]".to_owned()),
            ("skip_decay", "0.9".to_owned()),
        ]
    }

    #[test]
    fn what_is_written_is_read_and_always_the_same_bytes() {
        let bytes = tower().to_safetensors().unwrap();
        assert_eq!(UserTower::from_safetensors(&bytes).unwrap(), tower());
        assert!((0..20).all(|_| tower().to_safetensors().unwrap() == bytes));
        let (header, about) = SafeTensors::read_metadata(&bytes).unwrap();
        assert!((8 + header).is_multiple_of(8), "tensors are aligned");
        let texts = about.metadata().as_ref().unwrap();
        assert_eq!(texts.len(), metadata().len());
        for (key, text) in metadata() {
            assert_eq!(texts[key], text);
        }
    }

    /// Damages the tensors.
    type Spoil = fn(&mut Vec<Tensor<'_>>);

    #[test]
    fn tensors_that_do_not_fit_are_refused_by_name() {
        let cases: [(&str, Spoil); 6] = [
            ("user_tower.residual", |tensors| {
                tensors.pop();
            }),
            ("user_tower.output.weight", |tensors| {
                tensors[2].1.swap(0, 1);
            }),
            ("user_tower.hidden.bias", |tensors| {
                tensors[1].1.push(1);
            }),
            ("user_tower.hidden.weight", |tensors| {
                tensors.remove(1);
            }),
            ("user_tower.output.bias", |tensors| {
                tensors[3].2[1] = f32::NAN;
            }),
            ("item_tower.id_table", |tensors| {
                tensors[0].0 = "item_tower.id_table".into();
            }),
        ];
        for (expected, spoil) in cases {
            let mut tower = tower();
            let mut tensors = tower.tensors_mut().into();
            spoil(&mut tensors);
            let bytes = tensors::write(&tensors, &metadata()).unwrap();
            let error = UserTower::from_safetensors(&bytes).unwrap_err();
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn metadata_that_are_not_as_agreed_are_refused_by_key() {
        for (key, text) in [
            ("format", "twotower-user-tower-2"),
            ("dim", "0"),
            ("dim", "two"),
            ("dim", "4"),
            ("dim", "2001"),
            ("dim", "18446744073709551615"),
            ("decays", "[]"),
            ("decays", "[0.5, NaN]"),
            ("decays", "[0.5, 1.5]"),
            ("decays", "[0.5]"),
            ("decays", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"),
            ("skip_decay", "-1"),
            ("skip_decay", "null"),
        ] {
            let changed = metadata().map(|(known, good)| {
                let text = if known == key { text.to_owned() } else { good };
                (known, text)
            });
            let bytes = tensors::write(&tower().tensors_mut(), &changed).unwrap();
            UserTower::from_safetensors(&bytes).expect_err(&format!("{key} {text}"));
        }
        let bytes = tensors::write(&tower().tensors_mut(), &[]).unwrap();
        let error = UserTower::from_safetensors(&bytes).unwrap_err();
        assert!(error.to_string().contains("`format`"), "{error}");
        UserTower::from_safetensors(b"").unwrap_err();
    }
}
