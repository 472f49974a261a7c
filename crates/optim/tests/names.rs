//! The names of settings.

use flatmin_optim::{Precision, Schedule};

#[test]
fn choices_are_read_as_they_are_written() {
    for schedule in Schedule::ALL {
        assert_eq!(schedule.to_string(), schedule.name());
        assert_eq!(schedule.name().parse(), Ok(schedule));
    }
    for precision in Precision::ALL {
        assert_eq!(precision.to_string(), precision.name());
        assert_eq!(precision.name().parse(), Ok(precision));
    }
    assert_eq!(format!("{:>8}|{:<8}|", Schedule::Step, Schedule::Cosine), "    step|cosine  |");
    let error = "linear".parse::<Schedule>().unwrap_err().to_string();
    assert_eq!(error, "unknown schedule 'linear', expected constant, cosine or step");
    let error = "float16".parse::<Precision>().unwrap_err().to_string();
    assert_eq!(error, "unknown precision 'float16', expected float64 or float32");
}

#[test]
fn stored_names_are_the_written_ones() {
    for schedule in Schedule::ALL {
        assert_eq!(serde_json::to_string(&schedule).unwrap(), format!("{:?}", schedule.name()));
    }
    for precision in Precision::ALL {
        assert_eq!(serde_json::to_string(&precision).unwrap(), format!("{:?}", precision.name()));
    }
}
